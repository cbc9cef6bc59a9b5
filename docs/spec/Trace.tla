-------------------------------- MODULE Trace --------------------------------
(* Histories of the simulation, held to the specification: each is what one slot and its third party    *)
(* showed from event to event, and is accepted if Slot has a behaviour that shows the same.             *)
(*                                                                                                      *)
(* What a worker knows is in no history. So before an event of a worker, that worker may take steps     *)
(* that nobody sees; the event itself is one step, after which all has to be as the history says.       *)
EXTENDS Slot, TLC, Histories

VARIABLES h, i   \* which history this is, and how far it has come

Events == Histories[h]
Event == Events[i + 1]

kind == Event[1]
by == Event[2]   \* the attempt whose worker it is; 0 for everybody else

AsShown ==
  LET e == Event IN
  /\ tomb' = e[3] /\ slot'.state = e[4] /\ slot'.owner = e[5] /\ slot'.attempt = e[6] /\ slot'.lease = e[7]
  /\ slot'.pod = e[8] /\ slot'.key = e[9] /\ (slot'.gone # "no") = e[10]
  /\ slot'.retiring = e[16] /\ (slot'.state = "ready" => slot'.wish = e[15]) /\ (slot'.due => e[17])
  /\ slot'.put = e[18]
  /\ pod' = e[11] /\ keys' = e[12] /\ lag' = e[13] /\ \A a \in 1..Len(e[14]) : phase'[a] = e[14][a]

(* What nobody sees. *)
Unseen(a) ==
  /\ \/ GiveUp(a) \/ Stop(a) \/ LookBefore(a) \/ SweepFinds(a) \/ SweepFindsNothing(a) \/ Delete(a) \/ Cleared(a)
     \/ Commit(a) \/ SealFails(a) \/ RevokeLooks(a)
     \/ \E m \in flight : m.by = a /\ (Refused(m) \/ Dropped(m))
  /\ UNCHANGED <<tomb, slot, phase, pod, keys, lag>>

(* A deletion takes effect at once here; what was sent may arrive when its sender has given up. Then it   *)
(* removes what has that one name, which no slot of a living user stores, or names as retiring.           *)
LateDeletion ==
  /\ by \in 1..slot.attempt
  /\ keys' = keys \intersect Event[12] /\ (slot.state = "ready" => slot.key \notin keys \ keys')
  /\ (slot.state = "ready" /\ slot.key \in keys /\ ~slot.over => slot.retiring \notin keys \ keys')
  /\ pod' = Event[11] /\ (pod' = pod \/ (pod' = 0 /\ slot.state \in {"revoking", "absent"}))
  /\ UNCHANGED <<tomb, slot, phase, worker, flight, lag, hand, before, resumes>>

(* Once in Slot, and here as often as somebody did it. *)
ByHandAgain ==
  /\ hand' = TRUE /\ slot.state = "ready" /\ keys' = keys \ {slot.key}
  /\ UNCHANGED <<tomb, slot, phase, worker, flight, pod, lag, before, resumes>>

(* Whoever enabled the user may be late: they are suspended again, and another one has resumed meanwhile. *)
ResumesLate ==
  /\ slot' = [slot EXCEPT !.put = FALSE]
  /\ UNCHANGED <<tomb, phase, worker, flight, pod, keys, lag, hand, before, resumes>>

Seen ==
  CASE kind = "send" -> SendPod(by) \/ SendPodAgain(by) \/ SendKey(by)
    [] kind = "arrives" -> \/ \E m \in flight : m.by = by /\ (EffectAndAnswer(m) \/ EffectWithoutAnswer(m))
                           \/ UNCHANGED vars   \* a pod's create that was sent again
    [] kind = "look" -> UNCHANGED vars
    [] kind = "ask" -> Ask
    [] kind = "retire" -> IF slot.state = "ready" /\ ~slot.over THEN OverlapEnds ELSE UNCHANGED vars
    [] kind = "claim" -> ClaimToProvision \/ ClaimToSweep \/ ClaimToRevoke
    [] kind = "write" -> IF by = 0 THEN Bury \/ Mark \/ Rest \/ Suspend \/ Enable \/ PutOff \/ Resume \/ ResumesLate
                         ELSE \/ Commit(by) \/ CommitLooksLost(by) \/ Fail(by) \/ Swept(by) \/ Suspects(by) \/ SweepFails(by)
                              \/ Revoked(by) \/ RevokeFails(by)
    [] kind = "delete" -> Delete(by) \/ RemoveKey(by) \/ RemovePod(by) \/ Lost(by) \/ SealFails(by) \/ LateDeletion
    [] kind = "hand" -> ByHandAgain
    [] kind = "time" -> Tick(by)
    [] kind = "lag" -> Lag

TraceInit == Init /\ h \in 1..Len(Histories) /\ i = 0

TraceNext ==
  /\ i < Len(Events) /\ h' = h
  /\ \/ i' = i /\ by # 0 /\ Unseen(by)
     \/ i' = i + 1 /\ Seen /\ AsShown

TraceSpec == TraceInit /\ [][TraceNext]_<<vars, h, i>>

(* How far each history has come. *)
ASSUME \A n \in 1..Len(Histories) : TLCSet(n, -1)
Progress == i > TLCGet(h) => TLCSet(h, i) /\ PrintT(<<"reached", h, i>>)
=============================================================================
