package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

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
	// oneDeletion is more than one deletion takes.
	oneDeletion = 35 * time.Second
	// hidden is how long a message is away that fails again: longer than this function runs.
	hidden = 90 * time.Second
)

// redrive goes through the queue once. Safe to repeat, and to run twice at once: a deletion may be.
func (d deadLetters) redrive(ctx context.Context) (redriven, error) {
	r := redriven{Failed: []failedAgain{}}
	for {
		deadline, ok := ctx.Deadline()
		if ok && clock.Until(deadline) < oneDeletion {
			r.More = true
			return r, nil
		}
		out, err := d.queue.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl:            &d.url,
			MaxNumberOfMessages: 1,
			VisibilityTimeout:   int32(hidden.Seconds()),
			WaitTimeSeconds:     1, // or a server that has none passes for an empty queue
		})
		if err != nil {
			return redriven{}, fmt.Errorf("receiving from the dead-letter queue: %w", err)
		}
		if len(out.Messages) == 0 {
			return r, nil
		}
		m := out.Messages[0]
		event := eventOf(aws.ToString(m.Body))
		err = d.again(ctx, m, event)
		if err != nil {
			r.Failed = append(r.Failed, failedAgain{aws.ToString(m.MessageId), err.Error(), string(event)})
			continue
		}
		r.Done++
	}
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
