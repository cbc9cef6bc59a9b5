-------------------------------- MODULE Slot --------------------------------
(* The protocol of one user's slot at one provider: claim, two halves, settle, absence, commit,         *)
(* take-over, deletion and revocation, as docs/architecture.md describes them.                          *)
(*                                                                                                      *)
(* One claim is one attempt, and a number belongs to one claim for ever. So a worker is named by its    *)
(* attempt, and so are the key and the pod that it makes. A process that is killed, frozen or late is a *)
(* worker that ends, or waits, at any step. What is left out stands in docs/spec/README.md.             *)
EXTENDS Integers, Sequences

CONSTANTS MaxAttempt,  \* how many claims a behaviour has at most
          MaxSends,    \* how many creates of a pod one claim has on their way at most
          Without      \* the rule that is taken out; "" for the protocol as it is

Attempt == 1..MaxAttempt
Holds(rule) == Without # rule

VARIABLES
  tomb,    \* the tombstone: "none", "stands" or "rests"
  slot,    \* the slot's item
  phase,   \* of each attempt's lease: 0 its first half, 1 its second half, 2 over, and the clocks' margin with it
  worker,  \* of each attempt
  flight,  \* creates that were sent and have had no effect yet
  pod,     \* at the third party: 0 for none, or the attempt that made it
  keys,    \* the keys in it, each named by the attempt that made it
  lag,     \* a replica of the third party that shows nothing: "ahead", "now" or "over"
  hand     \* somebody has removed a key by hand at the third party

vars == <<tomb, slot, phase, worker, flight, pod, keys, lag, hand>>

(* lease: something may still take effect (lease_until is set). pod, key: what the slot names, 0 for    *)
(* nothing. gone: a look has found nothing: "no", "seen", or "lied" if the replica was lagging then.     *)
Absent == [state |-> "absent", owner |-> 0, attempt |-> 0, lease |-> FALSE, pod |-> 0, key |-> 0, gone |-> "no"]

(* was: the slot as it was claimed. inherited: a lower attempt may have left something that it does not  *)
(* name. unknown: the outcome of a create of this attempt is. listed: what a look found and is to be      *)
(* deleted. found: this pass of a revocation found or made a pod itself, or removed one. look: it found   *)
(* nothing, as slot.gone says it, or "believed" if an earlier look confirms that.                         *)
Idle == [pc |-> "idle", work |-> "none", was |-> Absent, inherited |-> FALSE, unknown |-> FALSE, pod |-> 0, listed |-> {},
         found |-> FALSE, look |-> "no"]

Init ==
  /\ tomb = "none" /\ slot = Absent /\ phase = [a \in Attempt |-> 0] /\ worker = [a \in Attempt |-> Idle]
  /\ flight = {} /\ pod = 0 /\ keys = {} /\ lag = "ahead" /\ hand = FALSE

Mine(a) == slot.owner = a /\ slot.attempt = a
Settled(a) == ~worker[a].inherited /\ ~worker[a].unknown
Nothing == IF lag = "now" THEN "lied" ELSE "seen"
Go(a, pc) == worker' = [worker EXCEPT ![a].pc = pc]
End(a) == worker' = [worker EXCEPT ![a] = Idle]

(* Outside calls are made in the first half only. *)
MaySend(a) == phase[a] = 0 \/ (~Holds("two halves") /\ phase[a] = 1)

-----------------------------------------------------------------------------
(* Claims *)

Claimable == (slot.lease /\ Holds("wait for the lease")) => phase[slot.attempt] = 2
NotDeleted == tomb = "none" \/ ~Holds("claim on the condition of no tombstone")
Claim(work, next) ==
  LET a == slot.attempt + 1 IN
  /\ a \in Attempt
  /\ slot' = [slot EXCEPT !.state = next, !.owner = a, !.attempt = a, !.lease = TRUE]
  /\ worker' = [worker EXCEPT ![a] = [Idle EXCEPT !.pc = "begun", !.work = work, !.was = slot, !.inherited = slot.lease, !.pod = slot.pod]]
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand>>

ClaimToProvision ==
  /\ NotDeleted /\ Claimable /\ slot.state \in {"absent", "failed", "provisioning"}
  /\ Claim("provision", "provisioning")

ClaimToSweep == NotDeleted /\ Claimable /\ slot.state = "ready" /\ Claim("sweep", "ready")

ClaimToRevoke == Claimable /\ slot.state = "revoking" /\ Claim("revoke", "revoking")

-----------------------------------------------------------------------------
(* Creates: sent once, with an effect now, later within half a lease, or never. *)

OnItsWay(a, what) ==
  LET n == CHOOSE k \in 1..(MaxSends + 1) : ~\E m \in flight : m.by = a /\ m.what = what /\ m.n = k IN
  /\ MaySend(a) /\ n <= MaxSends
  /\ flight' = flight \union {[what |-> what, by |-> a, n |-> n, late |-> phase[a] = 1]}

Send(a, what, waiting) ==
  /\ OnItsWay(a, what)
  /\ Go(a, waiting)
  /\ UNCHANGED <<tomb, slot, phase, pod, keys, lag, hand>>

(* What is not named is looked for: a pod that no claim has named yet, and what lower attempts may have left. *)
LooksForMore(a) == worker[a].inherited \/ worker[a].was.pod = 0

SendPod(a) ==
  /\ worker[a].pc = "begun"
  /\ worker[a].work = "provision" \/ (worker[a].work = "revoke" /\ LooksForMore(a))
  /\ Send(a, "pod", "pod sent")

SendKey(a) == worker[a].pc = "key" /\ Send(a, "key", "key sent")

(* A pod's create whose answer does not come is sent again. An unknown outcome is sticky. *)
SendPodAgain(a) ==
  /\ worker[a].pc = "pod sent" /\ OnItsWay(a, "pod")
  /\ worker' = [worker EXCEPT ![a].unknown = @ \/ Holds("an unknown outcome is sticky")]
  /\ UNCHANGED <<tomb, slot, phase, pod, keys, lag, hand>>

(* A repeated POST answers with the pod that is there. *)
Effect(m) ==
  /\ flight' = flight \ {m}
  /\ IF m.what = "pod" THEN pod' = (IF pod = 0 THEN m.by ELSE pod) /\ UNCHANGED keys
     ELSE keys' = (IF pod = 0 THEN keys ELSE keys \union {m.by}) /\ UNCHANGED pod

EffectAndAnswer(m) ==
  LET a == m.by IN
  /\ worker[a].pc = m.what \o " sent" /\ Effect(m)
  /\ IF m.what = "pod" THEN worker' = [worker EXCEPT ![a].pc = "look", ![a].pod = pod', ![a].found = worker[a].work = "revoke"]
     ELSE Go(a, IF pod = 0 THEN "failed" ELSE "commit")
  /\ UNCHANGED <<tomb, slot, phase, lag, hand>>

EffectWithoutAnswer(m) == Effect(m) /\ UNCHANGED <<tomb, slot, phase, worker, lag, hand>>

(* Where there are too many calls, a pod's create is sent again later. *)
Refused(m) ==
  /\ worker[m.by].pc = m.what \o " sent" /\ flight' = flight \ {m}
  /\ Go(m.by, "failed") \/ (m.what = "pod" /\ Go(m.by, "begun"))
  /\ UNCHANGED <<tomb, slot, phase, pod, keys, lag, hand>>

Dropped(m) == flight' = flight \ {m} /\ UNCHANGED <<tomb, slot, phase, worker, pod, keys, lag, hand>>

(* An unknown outcome is sticky. *)
GiveUp(a) ==
  /\ worker[a].pc \in {"pod sent", "key sent"}
  /\ worker' = [worker EXCEPT ![a].pc = "failed", ![a].unknown = @ \/ Holds("an unknown outcome is sticky")]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand>>

(* A look or a deletion fails, or there is no time left. *)
Stop(a) ==
  /\ worker[a].work = "provision" /\ worker[a].pc \in {"begun", "look", "clear", "key"} /\ Go(a, "failed")
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand>>

-----------------------------------------------------------------------------
(* Looks and deletions *)

Named(a) == IF Holds("keep what is named") THEN {worker[a].was.key} ELSE {}
Lower(a) == {k \in keys : k < a} \ Named(a)

(* A pass that provisions lists the keys of lower attempts. A replica that lags may show none. *)
LookBefore(a) ==
  /\ worker[a].pc = "look" /\ worker[a].work = "provision" /\ MaySend(a)
  /\ \E shown \in {Lower(a)} \union (IF lag = "now" THEN {{}} ELSE {}) :
       worker' = [worker EXCEPT ![a].pc = "clear", ![a].listed = shown]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand>>

Found(a) == pod = worker[a].was.pod /\ worker[a].was.key \in keys

SweepFinds(a) ==
  /\ worker[a].pc = "begun" /\ worker[a].work = "sweep" /\ MaySend(a) /\ Found(a)
  /\ worker' = [worker EXCEPT ![a].pc = "clear", ![a].listed = Lower(a)]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand>>

(* An absence is believed if an earlier look, far enough back that no replica lags any more, saw the same. *)
Confirms(a) == ~Holds("two looks") \/ (worker[a].was.gone # "no" /\ (worker[a].was.gone = "lied" => lag = "over"))

(* The first look that finds nothing is noted; the second one has the key made anew, under the same claim. *)
SweepFindsNothing(a) ==
  /\ worker[a].pc = "begun" /\ worker[a].work = "sweep" /\ MaySend(a)
  /\ ~Found(a) \/ lag = "now"
  /\ \/ Confirms(a) /\ worker' = [worker EXCEPT ![a].work = "provision"]
     \/ worker' = [worker EXCEPT ![a].pc = "suspects", ![a].look = IF worker[a].was.gone = "no" THEN Nothing ELSE worker[a].was.gone]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand>>

Delete(a) ==
  /\ worker[a].pc = "clear" /\ MaySend(a)
  /\ \E k \in worker[a].listed :
       /\ keys' = keys \ {k}
       /\ worker' = [worker EXCEPT ![a].listed = @ \ {k}]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, lag, hand>>

(* What lower attempts may have left is accounted for by a list that shows the key that was made since. *)
Cleared(a) ==
  /\ worker[a].pc = "clear" /\ worker[a].listed = {} /\ worker[a].work \in {"provision", "sweep"}
  /\ worker' = [worker EXCEPT ![a].pc = IF worker[a].work = "sweep" THEN "swept" ELSE "key",
                              ![a].inherited = @ /\ worker[a].work = "provision" /\ Holds("a look before the create accounts for nothing")]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand>>

-----------------------------------------------------------------------------
(* Ends of a claim of the living *)

Commit(a) ==
  /\ worker[a].pc = "commit"
  /\ LET fenced == Mine(a) /\ slot.state \in {"provisioning", "ready"}
     IN IF fenced \/ (~Holds("fence") /\ slot.state # "absent")
        THEN /\ slot' = [slot EXCEPT !.state = "ready", !.owner = 0, !.pod = worker[a].pod, !.key = a, !.gone = "no",
                                     !.lease = ~Settled(a) \/ worker[a].was.key # 0]
             /\ End(a)
        ELSE Go(a, "lost") /\ UNCHANGED slot
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand>>

(* A commit whose answer was lost looks like a refusal to its repeat: the worker looks what the slot stores. *)
CommitLooksLost(a) ==
  /\ worker[a].pc = "commit" /\ Mine(a) /\ slot.state \in {"provisioning", "ready"}
  /\ slot' = [slot EXCEPT !.state = "ready", !.owner = 0, !.pod = worker[a].pod, !.key = a, !.gone = "no",
                          !.lease = ~Settled(a) \/ worker[a].was.key # 0]
  /\ Go(a, "lost")
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand>>

(* A key that cannot be sealed is deleted, if that succeeds: a later attempt finds it by its name otherwise. *)
SealFails(a) ==
  /\ worker[a].pc = "commit"
  /\ \/ keys' = keys \ {a} /\ Go(a, "failed")
     \/ worker' = [worker EXCEPT ![a].pc = "failed", ![a].unknown = @ \/ Holds("what could not be discarded is not settled")]
        /\ UNCHANGED keys
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, lag, hand>>

(* The worker's own key goes, by its id, unless the slot stores it. *)
Lost(a) ==
  /\ worker[a].pc = "lost"
  /\ keys' = IF slot.key = a /\ Holds("what is stored is not discarded") THEN keys ELSE keys \ {a}
  /\ End(a)
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, lag, hand>>

Fail(a) ==
  /\ worker[a].pc = "failed" /\ worker[a].work = "provision"
  /\ slot' = IF Mine(a) /\ slot.state \in {"provisioning", "ready"}
             THEN [slot EXCEPT !.state = "failed", !.owner = 0, !.pod = worker[a].pod, !.lease = ~Settled(a)]
             ELSE slot
  /\ End(a)
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand>>

SweepEnds(a, lease, gone) ==
  /\ slot' = IF Mine(a) /\ slot.state = "ready" THEN [slot EXCEPT !.owner = 0, !.lease = lease, !.gone = gone] ELSE slot
  /\ End(a)
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand>>

Swept(a) == worker[a].pc = "swept" /\ SweepEnds(a, FALSE, "no")
Suspects(a) == worker[a].pc = "suspects" /\ SweepEnds(a, ~Settled(a), worker[a].look)
SweepFails(a) == worker[a].work = "sweep" /\ worker[a].pc \in {"begun", "clear"} /\ SweepEnds(a, ~Settled(a), "no")

-----------------------------------------------------------------------------
(* Deletion of the account *)

Bury ==
  /\ tomb = "none" /\ tomb' = "stands"
  /\ UNCHANGED <<slot, phase, worker, flight, pod, keys, lag, hand>>

(* The claim and its lease stay: what was sent under it may still take effect. *)
Mark ==
  /\ tomb = "stands" /\ slot.state \notin {"absent", "revoking"}
  /\ slot' = [slot EXCEPT !.state = "revoking", !.gone = "no", !.lease = IF Holds("a mark keeps the lease") THEN @ ELSE FALSE]
  /\ UNCHANGED <<tomb, phase, worker, flight, pod, keys, lag, hand>>

(* A settled slot names all that there is; the look of another one is the repeated POST. *)
RevokeLooks(a) ==
  /\ worker[a].work = "revoke" /\ MaySend(a)
  /\ \/ worker[a].pc \in {"look", "remove"}
     \/ worker[a].pc = "begun" /\ (~LooksForMore(a) \/ ~Holds("look for what is not named"))
  /\ LET there == pod # 0 /\ pod = worker[a].pod IN
     \/ /\ there
        /\ worker' = [worker EXCEPT ![a].pc = "remove", ![a].inherited = FALSE]
     \/ /\ ~there \/ lag = "now"
        /\ \/ worker' = [worker EXCEPT ![a].pc = "nothing", ![a].inherited = FALSE, ![a].look = Nothing]
           \/ Confirms(a) /\ worker' = [worker EXCEPT ![a].pc = "nothing", ![a].inherited = FALSE, ![a].look = "believed"]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand>>

(* What the slot names is emptied first, key by key. *)
RemoveKey(a) ==
  /\ worker[a].work = "revoke" /\ worker[a].pc \in {"begun", "remove"} /\ MaySend(a)
  /\ pod # 0 /\ pod = worker[a].pod
  /\ \E k \in keys : keys' = keys \ {k}
  /\ UNCHANGED <<tomb, slot, phase, worker, flight, pod, lag, hand>>

(* The answer may be lost; then the look that follows finds nothing. *)
RemovePod(a) ==
  /\ worker[a].pc = "remove" /\ MaySend(a) /\ pod = worker[a].pod
  /\ pod' = 0 /\ keys' = {}
  /\ \/ worker' = [worker EXCEPT ![a].pc = "nothing", ![a].found = TRUE, ![a].look = Nothing]
     \/ UNCHANGED worker
  /\ UNCHANGED <<tomb, slot, phase, flight, lag, hand>>

(* The slot goes by a pass that found nothing, after another one that found nothing or removed it. *)
Revoked(a) ==
  /\ worker[a].pc = "nothing"
  /\ LET fresh == worker[a].found /\ Holds("a find begins the looks anew")   \* this is a first look at most
         mine == Mine(a) /\ slot.state = "revoking"
         kept == [slot EXCEPT !.owner = 0, !.lease = ~Settled(a), !.pod = worker[a].pod,
                              !.gone = IF ~Settled(a) THEN "no"
                                       ELSE IF worker[a].look = "believed" THEN "seen"
                                       ELSE IF fresh \/ worker[a].was.gone = "no" THEN worker[a].look ELSE worker[a].was.gone]
     IN \/ slot' = IF mine THEN kept ELSE slot
        \/ mine /\ Settled(a) /\ ~fresh /\ worker[a].look = "believed" /\ slot' = [Absent EXCEPT !.attempt = slot.attempt]
  /\ End(a)
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand>>

RevokeFails(a) ==
  /\ worker[a].work = "revoke" /\ worker[a].pc \in {"begun", "failed", "look", "remove"}
  /\ slot' = IF Mine(a) /\ slot.state = "revoking"
             THEN [slot EXCEPT !.owner = 0, !.lease = ~Settled(a), !.pod = worker[a].pod, !.gone = "no"] ELSE slot
  /\ End(a)
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand>>

Rest ==
  /\ tomb = "stands" /\ slot.state = "absent" /\ tomb' = "rests"
  /\ UNCHANGED <<slot, phase, worker, flight, pod, keys, lag, hand>>

-----------------------------------------------------------------------------
(* The world *)

(* A create takes effect within half a lease of being sent, or never (the assumption that all rests on). *)
Tick(a) ==
  /\ slot.attempt >= a /\ phase[a] < 2
  /\ phase[a] = 0 \/ ~\E m \in flight : m.by = a /\ ~m.late
  /\ phase' = [phase EXCEPT ![a] = @ + 1]
  /\ UNCHANGED <<tomb, slot, worker, flight, pod, keys, lag, hand>>

Die(a) ==
  /\ worker[a].pc # "idle" /\ End(a)
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand>>

Lag ==
  /\ \/ lag = "ahead" /\ lag' = "now"
     \/ lag = "now" /\ lag' = "over"
  /\ UNCHANGED <<tomb, slot, phase, worker, flight, pod, keys, hand>>

ByHand ==
  /\ ~hand /\ hand' = TRUE /\ slot.state = "ready" /\ slot.key \in keys /\ keys' = keys \ {slot.key}
  /\ UNCHANGED <<tomb, slot, phase, worker, flight, pod, lag>>

Work(a) ==
  \/ SendPod(a) \/ SendPodAgain(a) \/ SendKey(a) \/ GiveUp(a) \/ Stop(a)
  \/ LookBefore(a) \/ SweepFinds(a) \/ SweepFindsNothing(a) \/ Delete(a) \/ Cleared(a)
  \/ Commit(a) \/ CommitLooksLost(a) \/ SealFails(a) \/ Lost(a) \/ Fail(a) \/ Swept(a) \/ Suspects(a) \/ SweepFails(a)
  \/ RevokeLooks(a) \/ RemoveKey(a) \/ RemovePod(a) \/ Revoked(a) \/ RevokeFails(a) \/ Tick(a) \/ Die(a)

Next ==
  \/ ClaimToProvision \/ ClaimToSweep \/ ClaimToRevoke \/ Bury \/ Mark \/ Rest \/ Lag \/ ByHand
  \/ \E a \in Attempt : Work(a)
  \/ \E m \in flight : EffectAndAnswer(m) \/ EffectWithoutAnswer(m) \/ Refused(m) \/ Dropped(m)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What has to be true; the names are those of docs/architecture.md. *)

TypeOK ==
  /\ tomb \in {"none", "stands", "rests"} /\ lag \in {"ahead", "now", "over"} /\ hand \in BOOLEAN
  /\ slot.state \in {"absent", "provisioning", "ready", "failed", "revoking"}
  /\ pod \in {0} \union Attempt /\ keys \subseteq Attempt /\ (pod = 0 => keys = {})

AtRest == slot.state = "ready" /\ slot.owner = 0 /\ ~slot.lease /\ slot.gone = "no"

(* I1: a slot at rest names the one pod and the one key that there are. *)
ExactlyOne == (tomb = "none" /\ AtRest) => (pod = slot.pod /\ (keys = {slot.key} \/ (hand /\ keys = {})))

(* I2: when the tombstone rests, nothing is there, and nothing will be. *)
NothingLeft == tomb = "rests" => (pod = 0 /\ keys = {} /\ flight = {})

(* I4: a key that is stored is never destroyed by a worker, as long as its user lives. *)
StoredKeyStays == [][(slot.state = "ready" /\ slot.key \in keys /\ slot'.state = "ready" /\ slot'.key = slot.key /\ hand' = hand)
                      => slot.key \in keys']_vars

(* I5: once the tombstone stands, a claim only revokes. *)
DeletedStaysDeleted == [][(tomb # "none" /\ slot'.attempt > slot.attempt) => slot'.state = "revoking"]_vars

=============================================================================
