package stack

// KillDatabase ends the DynamoDB Local that the stack started, as a crash would.
func (s *Stack) KillDatabase() { s.closers[0]() }
