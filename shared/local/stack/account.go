package stack

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"

	"managed-credentials/shared/local/gateway"
	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/userpool"
)

// userDeleted does what EventBridge does once a user was deleted in Cognito: it delivers the event,
// some time later. What fails is not delivered again, but goes to the dead-letter queue at once.
func (s *Stack) userDeleted(sub, _ string) {
	_, quiet := s.quiet.LoadAndDelete(sub)
	if quiet {
		return
	}
	s.background(func() { s.deliver("the deletion of a user", gateway.UserDeleted(s.UserPoolID, sub, time.Now())) })
}

// userSwitched does so once a user was disabled or enabled in Cognito.
func (s *Stack) userSwitched(sub string, enabled bool) {
	s.background(func() {
		s.deliver("the disabling or enabling of a user", gateway.UserSwitched(s.UserPoolID, sub, enabled, time.Now()))
	})
}

func (s *Stack) deliver(what string, event []byte) {
	_, err := s.Host.Invoke(context.Background(), "user-cleanup", event)
	if err != nil {
		_, _ = fmt.Fprintf(s.log, "delivering %s: %v\n", what, err)
		s.Queues.Send(DeadLetters, string(lambda.Undelivered("user-cleanup", event)))
	}
}

// removeUser takes a user out of the pool without an event: the caller delivers it himself, to see
// what comes of it.
func (s *Stack) removeUser(ctx context.Context, sub string) error {
	s.quiet.Store(sub, true)
	defer s.quiet.Delete(sub)
	pool := userpool.New(cognitoidentityprovider.New(cognitoidentityprovider.Options{
		Region:       region,
		BaseEndpoint: aws.String(s.CognitoURL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
	}), s.UserPoolID)
	return pool.Remove(ctx, sub, sub) // Cognito takes the sub for a name, too.
}

// onSchedule invokes a function as the schedule does, until Close; never if every is 0.
func (s *Stack) onSchedule(every time.Duration, function string, event func() []byte) {
	if every == 0 {
		return
	}
	s.background(func() { s.tick(every, function, event) })
}

func (s *Stack) tick(every time.Duration, function string, event func() []byte) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-tick.C:
		}
		_, err := s.Host.Invoke(context.Background(), function, event())
		if err != nil {
			_, _ = fmt.Fprintf(s.log, "invoking %s on schedule: %v\n", function, err)
		}
	}
}
