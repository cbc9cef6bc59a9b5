-------------------------------- MODULE Slot --------------------------------
(* The protocol of one user's slot at one provider: claim, two halves, settle, absence, commit,         *)
(* take-over, rotation, suspension, deletion and revocation, as docs/architecture.md describes them.    *)
(*                                                                                                      *)
(* One claim is one attempt, and a number belongs to one claim for ever. So a worker is named by its    *)
(* attempt, and so are the key and the pod that it makes. A process that is killed, frozen or late is a *)
(* worker that ends, or waits, at any step. What is left out stands in docs/spec/README.md.             *)
EXTENDS Integers, Sequences

CONSTANTS MaxAttempt,  \* how many claims a behaviour has at most
          MaxSends,    \* how many creates of a pod one claim has on their way at most
          From,        \* where a behaviour begins: with "nothing", a "ready" slot, or one in the "overlap" of a rotation
          Rotates,     \* whether another key is asked for
          Suspends,    \* whether the user is suspended and enabled
          Without      \* the rule that is taken out; "" for the protocol as it is

Attempt == 1..MaxAttempt
Holds(rule) == Without # rule

VARIABLES
  tomb,    \* the tombstone: "none", "stands" or "rests"; or "suspended", which stands in its place
  slot,    \* the slot's item
  phase,   \* of each attempt's lease: 0 its first half, 1 its second half, 2 over, and the clocks' margin with it
  worker,  \* of each attempt
  flight,  \* creates that were sent and have had no effect yet
  pod,     \* at the third party: 0 for none, or the attempt that made it
  keys,    \* the keys in it, each named by the attempt that made it
  lag,     \* a replica of the third party that shows nothing: "ahead", "now" or "over"
  hand,    \* somebody has removed a key by hand at the third party
  before,  \* the slot as it was before another key was asked for: somebody may have read it then
  resumes  \* whoever has enabled the user has still to make due what waited for that

vars == <<tomb, slot, phase, worker, flight, pod, keys, lag, hand, before, resumes>>

(* lease: something may still take effect (lease_until is set). pod, key: what the slot names, 0 for    *)
(* nothing. gone: a look has found nothing: "no", "seen", or "lied" if the replica was lagging then.     *)
(* wish: another key was asked for. retiring: the key that a rotation has replaced and that serves on,   *)
(* 0 for none. over: by the clock of some, its time is. due: of a slot that is ready and at rest, that   *)
(* it is worked on by itself. put: it was put off, because the user is suspended.                        *)
Absent == [state |-> "absent", owner |-> 0, attempt |-> 0, lease |-> FALSE, pod |-> 0, key |-> 0, gone |-> "no",
           wish |-> FALSE, retiring |-> 0, over |-> FALSE, due |-> FALSE, put |-> FALSE]

(* was: the slot as it was claimed. inherited: a lower attempt may have left something that it does not  *)
(* name. unknown: the outcome of a create of this attempt is. listed: what a look found and is to be      *)
(* deleted. found: this pass of a revocation found or made a pod itself, or removed one. look: it found   *)
(* nothing, as slot.gone says it, or "believed" if an earlier look confirms that. keeps: the key that     *)
(* is retiring and stays, 0 for none. retires: what this pass makes replaces a key that serves on.        *)
Idle == [pc |-> "idle", work |-> "none", was |-> Absent, inherited |-> FALSE, unknown |-> FALSE, pod |-> 0, listed |-> {},
         found |-> FALSE, look |-> "no", keeps |-> 0, retires |-> FALSE]

(* A worker whose commit looked lost to it may be late for any time.                                      *)
Late(a) == {[b \in Attempt |-> Idle], [[b \in Attempt |-> Idle] EXCEPT ![a].pc = "lost"]}
Ready == [Absent EXCEPT !.state = "ready", !.attempt = 1, !.pod = 1, !.key = 1]
InOverlap == [Ready EXCEPT !.attempt = 2, !.key = 2, !.retiring = 1, !.due = TRUE]

Init ==
  /\ tomb = "none" /\ flight = {} /\ lag = "ahead" /\ hand = FALSE /\ before = Absent /\ resumes = FALSE
  /\ CASE From = "nothing" -> slot = Absent /\ pod = 0 /\ keys = {} /\ worker = [a \in Attempt |-> Idle]
       [] From = "ready"   -> slot = Ready /\ pod = 1 /\ keys = {1} /\ worker \in Late(1)
       [] From = "overlap" -> slot = InOverlap /\ pod = 1 /\ keys = {1, 2} /\ worker \in Late(2)
  /\ phase = [a \in Attempt |-> IF a <= slot.attempt THEN 2 ELSE 0]

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

(* Whoever claims has read the slot with the number that it has now. *)
Read == {slot} \union {r \in {before} : r.attempt = slot.attempt /\ r.state = slot.state}

(* What is retiring stays while it serves, by the clock of whoever looks; not if another key is wanted.   *)
Keeps(work, read) ==
  LET wanted == read.wish /\ Holds("a rotation gives up what retires already") IN
  IF work # "sweep" \/ wanted \/ ~Holds("keep what is retiring") THEN {0}
  ELSE {read.retiring} \union (IF read.over THEN {0} ELSE {})

(* A slot that names two keys has something that a revocation does not go by. *)
Inherits(work, read) == read.lease \/ (work = "revoke" /\ read.retiring # 0)

Claim(work, next) ==
  LET a == slot.attempt + 1 IN
  /\ a \in Attempt
  /\ slot' = [slot EXCEPT !.state = next, !.owner = a, !.attempt = a, !.lease = TRUE, !.due = FALSE, !.put = FALSE]
  /\ \E read \in Read : \E keeps \in Keeps(work, read) :
       worker' = [worker EXCEPT ![a] = [Idle EXCEPT !.pc = "begun", !.work = work, !.was = read, !.inherited = Inherits(work, read),
                                                    !.pod = read.pod, !.keeps = keeps]]
  /\ before' = Absent
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand, resumes>>

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
  /\ UNCHANGED <<tomb, slot, phase, pod, keys, lag, hand, before, resumes>>

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
  /\ UNCHANGED <<tomb, slot, phase, pod, keys, lag, hand, before, resumes>>

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
  /\ UNCHANGED <<tomb, slot, phase, lag, hand, before, resumes>>

EffectWithoutAnswer(m) == Effect(m) /\ UNCHANGED <<tomb, slot, phase, worker, lag, hand, before, resumes>>

(* Where there are too many calls, a pod's create is sent again later. *)
Refused(m) ==
  /\ worker[m.by].pc = m.what \o " sent" /\ flight' = flight \ {m}
  /\ Go(m.by, "failed") \/ (m.what = "pod" /\ Go(m.by, "begun"))
  /\ UNCHANGED <<tomb, slot, phase, pod, keys, lag, hand, before, resumes>>

Dropped(m) == flight' = flight \ {m} /\ UNCHANGED <<tomb, slot, phase, worker, pod, keys, lag, hand, before, resumes>>

(* An unknown outcome is sticky. *)
GiveUp(a) ==
  /\ worker[a].pc \in {"pod sent", "key sent"}
  /\ worker' = [worker EXCEPT ![a].pc = "failed", ![a].unknown = @ \/ Holds("an unknown outcome is sticky")]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand, before, resumes>>

(* A look or a deletion fails, or there is no time left. *)
Stop(a) ==
  /\ worker[a].work = "provision" /\ worker[a].pc \in {"begun", "look", "clear", "key"} /\ Go(a, "failed")
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand, before, resumes>>

-----------------------------------------------------------------------------
(* Looks and deletions *)

Named(a) == {worker[a].keeps} \union (IF Holds("keep what is named") THEN {worker[a].was.key} ELSE {})
Lower(a) == {k \in keys : k < a} \ Named(a)

(* A pass that provisions lists the keys of lower attempts. A replica that lags may show none. *)
LookBefore(a) ==
  /\ worker[a].pc = "look" /\ worker[a].work = "provision" /\ MaySend(a)
  /\ \E shown \in {Lower(a)} \union (IF lag = "now" THEN {{}} ELSE {}) :
       worker' = [worker EXCEPT ![a].pc = "clear", ![a].listed = shown]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand, before, resumes>>

Found(a) == pod = worker[a].was.pod /\ worker[a].was.key \in keys

SweepFinds(a) ==
  /\ worker[a].pc = "begun" /\ worker[a].work = "sweep" /\ MaySend(a) /\ Found(a)
  /\ worker' = [worker EXCEPT ![a].pc = "clear", ![a].listed = Lower(a)]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand, before, resumes>>

(* An absence is believed if an earlier look, far enough back that no replica lags any more, saw the same. *)
Confirms(a) == ~Holds("two looks") \/ (worker[a].was.gone # "no" /\ (worker[a].was.gone = "lied" => lag = "over"))

(* The first look that finds nothing is noted; the second one has the key made anew, under the same claim, *)
(* and what is retiring given up.                                                                          *)
SweepFindsNothing(a) ==
  /\ worker[a].pc = "begun" /\ worker[a].work = "sweep" /\ MaySend(a)
  /\ ~Found(a) \/ lag = "now"
  /\ \/ Confirms(a) /\ worker' = [worker EXCEPT ![a].work = "provision", ![a].keeps = 0]
     \/ worker' = [worker EXCEPT ![a].pc = "suspects", ![a].look = IF worker[a].was.gone = "no" THEN Nothing ELSE worker[a].was.gone]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand, before, resumes>>

Delete(a) ==
  /\ worker[a].pc = "clear" /\ MaySend(a)
  /\ \E k \in worker[a].listed :
       /\ keys' = keys \ {k}
       /\ worker' = [worker EXCEPT ![a].listed = @ \ {k}]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, lag, hand, before, resumes>>

(* What lower attempts may have left is accounted for by a list that shows the key that was made since.  *)
(* If another key is wanted, it is made then, under the same claim.                                       *)
Cleared(a) ==
  /\ worker[a].pc = "clear" /\ worker[a].listed = {} /\ worker[a].work \in {"provision", "sweep"}
  /\ LET sweeps == worker[a].work = "sweep"
         wanted == sweeps /\ worker[a].was.wish IN
     worker' = [worker EXCEPT ![a].pc = IF wanted THEN "begun" ELSE IF sweeps THEN "swept" ELSE "key",
                              ![a].work = IF wanted THEN "provision" ELSE @, ![a].retires = @ \/ wanted,
                              ![a].keeps = IF wanted THEN 0 ELSE @,
                              ![a].inherited = @ /\ ~sweeps /\ Holds("a look before the create accounts for nothing")]
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand, before, resumes>>

-----------------------------------------------------------------------------
(* Ends of a claim of the living *)

(* What a rotation replaces is named as retiring. What else was stored may be there after all. *)
Committed(a) ==
  LET retiring == IF worker[a].retires /\ Holds("name what was replaced") THEN worker[a].was.key ELSE 0 IN
  [slot EXCEPT !.state = "ready", !.owner = 0, !.pod = worker[a].pod, !.key = a, !.gone = "no", !.wish = FALSE,
               !.retiring = retiring, !.over = FALSE, !.put = FALSE, !.due = worker[a].retires /\ Holds("due when it has retired"),
               !.lease = ~Settled(a) \/ (worker[a].was.key # 0 /\ ~worker[a].retires)]

Commit(a) ==
  /\ worker[a].pc = "commit"
  /\ LET fenced == Mine(a) /\ slot.state \in {"provisioning", "ready"}
     IN IF fenced \/ (~Holds("fence") /\ slot.state # "absent")
        THEN slot' = Committed(a) /\ End(a)
        ELSE Go(a, "lost") /\ UNCHANGED slot
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand, before, resumes>>

(* A commit whose answer was lost looks like a refusal to its repeat: the worker looks what the slot stores. *)
CommitLooksLost(a) ==
  /\ worker[a].pc = "commit" /\ Mine(a) /\ slot.state \in {"provisioning", "ready"}
  /\ slot' = Committed(a) /\ Go(a, "lost")
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand, before, resumes>>

(* A key that cannot be sealed is deleted, if that succeeds: a later attempt finds it by its name otherwise. *)
SealFails(a) ==
  /\ worker[a].pc = "commit"
  /\ \/ keys' = keys \ {a} /\ Go(a, "failed")
     \/ worker' = [worker EXCEPT ![a].pc = "failed", ![a].unknown = @ \/ Holds("what could not be discarded is not settled")]
        /\ UNCHANGED keys
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, lag, hand, before, resumes>>

(* The worker's own key goes, by its id, unless the slot names it. *)
Lost(a) ==
  LET kept == \/ slot.key = a /\ Holds("what is stored is not discarded")
              \/ slot.retiring = a /\ Holds("what is retiring is not discarded") IN
  /\ worker[a].pc = "lost"
  /\ keys' = IF kept THEN keys ELSE keys \ {a}
  /\ End(a)
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, lag, hand, before, resumes>>

(* What was retiring before the slot was claimed is forgotten once a sweep has removed it. *)
Retiring(a, swept) ==
  IF worker[a].was.retiring # 0 /\ swept /\ (worker[a].keeps = 0 \/ ~Holds("what is kept is not forgotten"))
  THEN [slot EXCEPT !.retiring = 0, !.over = FALSE] ELSE slot

(* The stored key serves on, and the wish stays, if a rotation fails. A look had found the key. *)
Fail(a) ==
  /\ worker[a].pc = "failed" /\ worker[a].work = "provision"
  /\ LET retires == worker[a].retires
         serves == retires /\ Holds("a rotation that fails leaves the key") IN
     slot' = IF Mine(a) /\ slot.state \in {"provisioning", "ready"}
             THEN [Retiring(a, retires) EXCEPT !.state = IF serves THEN "ready" ELSE "failed", !.owner = 0, !.pod = worker[a].pod,
                                               !.lease = ~Settled(a), !.gone = IF retires THEN "no" ELSE @, !.due = serves, !.put = FALSE,
                                               !.wish = @ /\ (~retires \/ Holds("a rotation that fails is still wanted"))]
             ELSE slot
  /\ End(a)
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand, before, resumes>>

SweepEnds(a, swept, lease, gone) ==
  /\ LET next == Retiring(a, swept) IN
     slot' = IF Mine(a) /\ slot.state = "ready"
             THEN [next EXCEPT !.owner = 0, !.lease = lease, !.gone = gone, !.put = FALSE, !.due = next.retiring # 0 \/ (~swept /\ (next.wish \/ gone # "no"))] ELSE slot
  /\ End(a)
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand, before, resumes>>

Swept(a) == worker[a].pc = "swept" /\ SweepEnds(a, TRUE, FALSE, "no")
Suspects(a) == worker[a].pc = "suspects" /\ SweepEnds(a, FALSE, ~Settled(a), worker[a].look)
SweepFails(a) == worker[a].work = "sweep" /\ worker[a].pc \in {"begun", "clear"} /\ SweepEnds(a, FALSE, ~Settled(a), "no")

-----------------------------------------------------------------------------
(* Rotation *)

(* Asked of a slot at rest. The wish takes a number, so that nobody who has read the slot before can claim *)
(* it and overlook that. What is retiring already retires now.                                            *)
Ask ==
  LET a == IF Holds("a wish takes a number") THEN slot.attempt + 1 ELSE slot.attempt IN
  /\ Rotates /\ a \in Attempt /\ slot.state = "ready" /\ slot.owner = 0 /\ ~slot.lease
  /\ slot' = [slot EXCEPT !.attempt = a, !.wish = TRUE, !.over = slot.retiring # 0, !.due = TRUE, !.put = FALSE]
  /\ phase' = [phase EXCEPT ![a] = 2] /\ before' = slot
  /\ UNCHANGED <<tomb, worker, flight, pod, keys, lag, hand, resumes>>

(* Clocks may be apart: from then on some take the overlap for over. *)
OverlapEnds ==
  /\ slot.state = "ready" /\ slot.retiring # 0 /\ ~slot.over /\ slot' = [slot EXCEPT !.over = TRUE]
  /\ UNCHANGED <<tomb, phase, worker, flight, pod, keys, lag, hand, before, resumes>>

-----------------------------------------------------------------------------
(* Suspension: an item where a tombstone would stand. It refuses what that refuses, and marks nothing. *)

Suspend ==
  /\ Suspends /\ tomb' = "suspended"
  /\ tomb = "none" \/ (tomb \in {"stands", "rests"} /\ ~Holds("a tombstone is not replaced"))
  /\ UNCHANGED <<slot, phase, worker, flight, pod, keys, lag, hand, before, resumes>>

Enable ==
  /\ Suspends /\ tomb' = "none" /\ resumes' = TRUE
  /\ tomb = "suspended" \/ (tomb \in {"stands", "rests"} /\ ~Holds("a tombstone is not removed"))
  /\ UNCHANGED <<slot, phase, worker, flight, pod, keys, lag, hand, before>>

(* Who finds a slot due of a user who is suspended puts it off, if they still are. *)
PutOff ==
  /\ Suspends /\ (tomb = "suspended" \/ (tomb = "none" /\ ~Holds("put off only while suspended")))
  /\ slot.state \notin {"absent", "revoking"} /\ slot' = [slot EXCEPT !.put = TRUE]
  /\ UNCHANGED <<tomb, phase, worker, flight, pod, keys, lag, hand, before, resumes>>

Resume ==
  /\ resumes /\ resumes' = FALSE /\ slot' = [slot EXCEPT !.put = FALSE]
  /\ UNCHANGED <<tomb, phase, worker, flight, pod, keys, lag, hand, before>>

-----------------------------------------------------------------------------
(* Deletion of the account *)

Bury ==
  /\ tomb \in {"none", "suspended"} /\ tomb' = "stands"
  /\ UNCHANGED <<slot, phase, worker, flight, pod, keys, lag, hand, before, resumes>>

(* The claim and its lease stay: what was sent under it may still take effect. *)
Mark ==
  /\ tomb = "stands" \/ (tomb = "suspended" /\ ~Holds("a suspension is no deletion"))
  /\ slot.state \notin {"absent", "revoking"}
  /\ slot' = [slot EXCEPT !.state = "revoking", !.gone = "no", !.lease = IF Holds("a mark keeps the lease") THEN @ ELSE FALSE,
                          !.wish = FALSE, !.over = FALSE, !.due = FALSE, !.put = FALSE]
  /\ UNCHANGED <<tomb, phase, worker, flight, pod, keys, lag, hand, before, resumes>>

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
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand, before, resumes>>

(* What the slot names is emptied first, key by key. *)
RemoveKey(a) ==
  /\ worker[a].work = "revoke" /\ worker[a].pc \in {"begun", "remove"} /\ MaySend(a)
  /\ pod # 0 /\ pod = worker[a].pod
  /\ \E k \in keys : keys' = keys \ {k}
  /\ UNCHANGED <<tomb, slot, phase, worker, flight, pod, lag, hand, before, resumes>>

(* The answer may be lost; then the look that follows finds nothing. *)
RemovePod(a) ==
  /\ worker[a].pc = "remove" /\ MaySend(a) /\ pod = worker[a].pod
  /\ pod' = 0 /\ keys' = {}
  /\ \/ worker' = [worker EXCEPT ![a].pc = "nothing", ![a].found = TRUE, ![a].look = Nothing]
     \/ UNCHANGED worker
  /\ UNCHANGED <<tomb, slot, phase, flight, lag, hand, before, resumes>>

(* The slot goes by a pass that found nothing, after another one that found nothing or removed it. *)
Revoked(a) ==
  /\ worker[a].pc = "nothing"
  /\ LET fresh == worker[a].found /\ Holds("a find begins the looks anew")   \* this is a first look at most
         mine == Mine(a) /\ slot.state = "revoking"
         kept == [slot EXCEPT !.owner = 0, !.lease = ~Settled(a), !.pod = worker[a].pod, !.retiring = IF Settled(a) THEN 0 ELSE @,
                              !.gone = IF ~Settled(a) THEN "no"
                                       ELSE IF worker[a].look = "believed" THEN "seen"
                                       ELSE IF fresh \/ worker[a].was.gone = "no" THEN worker[a].look ELSE worker[a].was.gone]
     IN \/ slot' = IF mine THEN kept ELSE slot
        \/ mine /\ Settled(a) /\ ~fresh /\ worker[a].look = "believed" /\ slot' = [Absent EXCEPT !.attempt = slot.attempt]
  /\ End(a)
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand, before, resumes>>

RevokeFails(a) ==
  /\ worker[a].work = "revoke" /\ worker[a].pc \in {"begun", "failed", "look", "remove"}
  /\ slot' = IF Mine(a) /\ slot.state = "revoking"
             THEN [slot EXCEPT !.owner = 0, !.lease = ~Settled(a), !.pod = worker[a].pod, !.gone = "no",
                               !.retiring = IF Settled(a) THEN 0 ELSE @] ELSE slot
  /\ End(a)
  /\ UNCHANGED <<tomb, phase, flight, pod, keys, lag, hand, before, resumes>>

Rest ==
  /\ tomb = "stands" /\ slot.state = "absent" /\ tomb' = "rests"
  /\ UNCHANGED <<slot, phase, worker, flight, pod, keys, lag, hand, before, resumes>>

-----------------------------------------------------------------------------
(* The world *)

(* A create takes effect within half a lease of being sent, or never (the assumption that all rests on). *)
Tick(a) ==
  /\ slot.attempt >= a /\ phase[a] < 2
  /\ phase[a] = 0 \/ ~\E m \in flight : m.by = a /\ ~m.late
  /\ phase' = [phase EXCEPT ![a] = @ + 1]
  /\ UNCHANGED <<tomb, slot, worker, flight, pod, keys, lag, hand, before, resumes>>

Die(a) ==
  /\ worker[a].pc # "idle" /\ End(a)
  /\ UNCHANGED <<tomb, slot, phase, flight, pod, keys, lag, hand, before, resumes>>

Lag ==
  /\ \/ lag = "ahead" /\ lag' = "now"
     \/ lag = "now" /\ lag' = "over"
  /\ UNCHANGED <<tomb, slot, phase, worker, flight, pod, keys, hand, before, resumes>>

ByHand ==
  /\ ~hand /\ hand' = TRUE /\ slot.state = "ready" /\ slot.key \in keys /\ keys' = keys \ {slot.key}
  /\ UNCHANGED <<tomb, slot, phase, worker, flight, pod, lag, before, resumes>>

Work(a) ==
  \/ SendPod(a) \/ SendPodAgain(a) \/ SendKey(a) \/ GiveUp(a) \/ Stop(a)
  \/ LookBefore(a) \/ SweepFinds(a) \/ SweepFindsNothing(a) \/ Delete(a) \/ Cleared(a)
  \/ Commit(a) \/ CommitLooksLost(a) \/ SealFails(a) \/ Lost(a) \/ Fail(a) \/ Swept(a) \/ Suspects(a) \/ SweepFails(a)
  \/ RevokeLooks(a) \/ RemoveKey(a) \/ RemovePod(a) \/ Revoked(a) \/ RevokeFails(a) \/ Tick(a) \/ Die(a)

Next ==
  \/ ClaimToProvision \/ ClaimToSweep \/ ClaimToRevoke \/ Ask \/ OverlapEnds
  \/ Suspend \/ Enable \/ PutOff \/ Resume \/ Bury \/ Mark \/ Rest \/ Lag \/ ByHand
  \/ \E a \in Attempt : Work(a)
  \/ \E m \in flight : EffectAndAnswer(m) \/ EffectWithoutAnswer(m) \/ Refused(m) \/ Dropped(m)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What has to be true; the names are those of docs/architecture.md. *)

TypeOK ==
  /\ tomb \in {"none", "suspended", "stands", "rests"} /\ lag \in {"ahead", "now", "over"} /\ hand \in BOOLEAN
  /\ slot.state \in {"absent", "provisioning", "ready", "failed", "revoking"}
  /\ pod \in {0} \union Attempt /\ keys \subseteq Attempt /\ (pod = 0 => keys = {})

AtRest == slot.state = "ready" /\ slot.owner = 0 /\ ~slot.lease

(* I1: a slot at rest names the one pod and the one key that there are, and the one that is retiring. *)
ExactlyOne ==
  (tomb = "none" /\ AtRest /\ slot.gone = "no") =>
    (pod = slot.pod /\ keys \subseteq {slot.key, slot.retiring} /\ (slot.key \in keys \/ hand))

(* I1: a key that is asked for is made, and one that is retiring goes: neither is forgotten. *)
NothingForgotten == AtRest /\ (slot.wish \/ slot.retiring # 0 \/ slot.gone # "no") => slot.due

(* I2: when the tombstone rests, nothing is there, and nothing will be. *)
NothingLeft == tomb = "rests" => (pod = 0 /\ keys = {} /\ flight = {})

(* I4: a key that is stored is never destroyed by a worker, as long as its user lives. *)
StoredKeyStays == [][(slot.state = "ready" /\ slot.key \in keys /\ slot'.state = "ready" /\ slot'.key = slot.key /\ hand' = hand)
                      => slot.key \in keys']_vars

(* I4: nor is the one that it replaced before its time, unless the stored one has gone. *)
RetiringKeyStays == [][(slot.state = "ready" /\ slot.key \in keys /\ slot.retiring \in keys /\ ~slot.over
                        /\ slot'.state = "ready" /\ ~slot'.over) => slot.retiring \in keys']_vars

(* A key that works is handed out until another one is stored; and who wants another one gets it. *)
StoredKeyServes == [][slot.state = "ready" /\ slot.key \in keys => slot'.state \in {"ready", "revoking"}]_vars
WantedKeyComes == [][slot.wish /\ slot'.state # "revoking" => slot'.wish \/ slot'.key # slot.key]_vars

(* I5: once the tombstone stands, a claim only revokes; and while the user is suspended, there is none. *)
DeletedStaysDeleted == [][(tomb # "none" /\ slot'.owner > slot.owner) => slot'.state = "revoking"]_vars

(* I5: nothing is revoked of who is not deleted, and who is deleted stays that. *)
OnlyTheDeletedAreRevoked == slot.state = "revoking" => tomb \in {"stands", "rests"}
TombstoneStays == [][(tomb \in {"stands", "rests"}) => tomb' \in {"stands", "rests"}]_vars

(* Nothing that was put off is left waiting for a user who is enabled. *)
NothingLeftWaiting == slot.put /\ tomb = "none" => resumes

=============================================================================
