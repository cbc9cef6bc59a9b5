package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
)

// deadLetters is the queue of the account deletions that failed for good. SQS can move messages
// back only to another queue that they came from; these came from Lambda and EventBridge, and go to
// the function itself.
type deadLetters struct {
	queue  *sqs.Client
	url    string
	lambda *awslambda.Client
	target string
}

// redriven is what came of a redrive.
type redriven struct {
	// Done is how many deletions were taken up and are off the queue.
	Done int `json:"done"`
	// Failed are those that failed again. They stay in the queue.
	Failed []failedAgain `json:"failed"`
	// More is true if time ran out before the queue was empty.
	More bool `json:"more"`
}

type failedAgain struct {
	MessageID string `json:"message_id"`
	Reason    string `json:"reason"`
	// Event is what user-cleanup was given: it tells when the deletion was, and by which request.
	Event string `json:"event"`
}

const (
	// sideBySide is how many deletions are under way at once: with operate itself six of the ten
	// invocations that a new account has.
	sideBySide = 5
	// oneDeletion is more than one deletion takes.
	oneDeletion = 35 * time.Second
	// hidden is how long a message is away that fails again: longer than this function runs.
	hidden = 90 * time.Second
)

// redrive goes through the queue once, with some of its messages side by side. Safe to repeat, and
// to run twice at once: a deletion may be.
func (d deadLetters) redrive(ctx context.Context) (redriven, error) {
	r := redriving{deadLetters: d, report: redriven{Failed: []failedAgain{}}}
	var lanes errgroup.Group
	for range sideBySide {
		lanes.Go(func() error { return r.lane(ctx) })
	}
	err := lanes.Wait()
	if err != nil {
		return redriven{}, err
	}
	return r.report, nil
}

// redriving is one redrive.
type redriving struct {
	deadLetters

	mu     sync.Mutex
	report redriven
}

// lane takes one message after the other, until the queue is empty or time runs out.
func (r *redriving) lane(ctx context.Context) error {
	for {
		deadline, ok := ctx.Deadline()
		if ok && clock.Until(deadline) < oneDeletion {
			r.note(func(report *redriven) { report.More = true })
			return nil
		}
		out, err := r.queue.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl:            &r.url,
			MaxNumberOfMessages: 1,
			VisibilityTimeout:   int32(hidden.Seconds()),
			WaitTimeSeconds:     1, // or a server that has none passes for an empty queue
		})
		if err != nil {
			return fmt.Errorf("receiving from the dead-letter queue: %w", err)
		}
		if len(out.Messages) == 0 {
			return nil
		}
		m := out.Messages[0]
		event := eventOf(aws.ToString(m.Body))
		err = r.again(ctx, m, event)
		r.note(func(report *redriven) {
			if err != nil {
				report.Failed = append(report.Failed, failedAgain{aws.ToString(m.MessageId), err.Error(), string(event)})
				return
			}
			report.Done++
		})
	}
}

// note changes the report.
func (r *redriving) note(change func(*redriven)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.report)
}

// again has the function work on a message's event, and takes the message off the queue if it did.
func (d deadLetters) again(ctx context.Context, m types.Message, event []byte) error {
	err := d.cleanUp(ctx, event)
	if err != nil {
		return err
	}
	_, err = d.queue.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &d.url, ReceiptHandle: m.ReceiptHandle})
	if err != nil {
		return fmt.Errorf("taking the message off the queue: %w", err)
	}
	return nil
}

// deleteAccount has the function delete a user's account.
func (d deadLetters) deleteAccount(ctx context.Context, user string) error {
	event, _ := json.Marshal(map[string]string{"user_id": user}) // texts always marshal
	return d.cleanUp(ctx, event)
}

// cleanUp has the function work on an event.
func (d deadLetters) cleanUp(ctx context.Context, event []byte) error {
	out, err := d.lambda.Invoke(ctx, &awslambda.InvokeInput{FunctionName: &d.target, Payload: event})
	if err != nil {
		return fmt.Errorf("invoking %s: %w", d.target, err)
	}
	if out.FunctionError == nil {
		return nil
	}
	var failure struct {
		Message string `json:"errorMessage"`
	}
	_ = json.Unmarshal(out.Payload, &failure) // without it the reason is in the function's log
	return fmt.Errorf("%s failed: %s", d.target, failure.Message)
}

// eventOf is the event that a message is about. EventBridge puts the event itself there, and Lambda
// a record of the invocation
// (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html).
func eventOf(body string) []byte {
	record, err := credential.ReadObject("message", []byte(body))
	if err != nil || record["requestContext"] == nil || record["requestPayload"] == nil {
		return []byte(body)
	}
	return record["requestPayload"]
}
