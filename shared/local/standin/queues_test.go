package standin_test

import (
	"errors"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"managed-credentials/shared/local/standin"
)

const queue = "https://sqs.us-east-1.amazonaws.com/000000000000/failed"

// startQueue starts a server with one queue, and a stock client for it.
func startQueue(t *testing.T, now func() time.Time) (*standin.Queues, *awssqs.Client) {
	t.Helper()
	server := standin.NewQueues(standin.QueuesConfig{Queues: []string{queue}, Now: now})
	listening := httptest.NewServer(server)
	t.Cleanup(listening.Close)
	return server, awssqs.New(awssqs.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(listening.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
}

func receive(t *testing.T, client *awssqs.Client, in awssqs.ReceiveMessageInput) []types.Message {
	t.Helper()
	in.QueueUrl = aws.String(queue)
	out, err := client.ReceiveMessage(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out.Messages
}

func TestAMessageIsHiddenWhileSomebodyWorksOnIt(t *testing.T) {
	t.Parallel()
	now := time.Now()
	server, client := startQueue(t, func() time.Time { return now })
	server.Send(queue, "first")
	server.Send(queue, "second")
	for _, want := range []string{"first", "second"} {
		got := receive(t, client, awssqs.ReceiveMessageInput{VisibilityTimeout: 60, WaitTimeSeconds: 1})
		if len(got) != 1 || *got[0].Body != want {
			t.Fatalf("got %v, want %s", got, want)
		}
	}
	if got := receive(t, client, awssqs.ReceiveMessageInput{}); len(got) != 0 {
		t.Errorf("a hidden message was received: %v", got)
	}
	now = now.Add(time.Minute)
	if got := receive(t, client, awssqs.ReceiveMessageInput{MaxNumberOfMessages: 10}); len(got) != 2 {
		t.Errorf("not both came back: %v", got)
	}
	server.Show(queue)
	if got := receive(t, client, awssqs.ReceiveMessageInput{}); len(got) != 1 {
		t.Error("what was shown is still hidden")
	}
}

func TestADeletedMessageDoesNotComeBack(t *testing.T) {
	t.Parallel()
	now := time.Now()
	server, client := startQueue(t, func() time.Time { return now })
	server.Send(queue, "first")
	server.Send(queue, "second")
	m := receive(t, client, awssqs.ReceiveMessageInput{})[0]
	for range 2 {
		_, err := client.DeleteMessage(t.Context(), &awssqs.DeleteMessageInput{QueueUrl: aws.String(queue), ReceiptHandle: m.ReceiptHandle})
		if err != nil {
			t.Error(err)
		}
	}
	if got := server.Bodies(queue); !slices.Equal(got, []string{"second"}) {
		t.Errorf("left are %v", got)
	}
}

func TestWhatSQSRefuses(t *testing.T) {
	t.Parallel()
	_, client := startQueue(t, nil)
	_, err := client.ReceiveMessage(t.Context(), &awssqs.ReceiveMessageInput{QueueUrl: aws.String("https://elsewhere")})
	var missing *types.QueueDoesNotExist
	if !errors.As(err, &missing) {
		t.Error(err)
	}
	_, err = client.DeleteMessage(t.Context(), &awssqs.DeleteMessageInput{QueueUrl: aws.String(queue), ReceiptHandle: aws.String("made up")})
	var invalid *types.ReceiptHandleIsInvalid
	if !errors.As(err, &invalid) {
		t.Error(err)
	}
	_, err = client.ReceiveMessage(t.Context(), &awssqs.ReceiveMessageInput{QueueUrl: aws.String(queue), MaxNumberOfMessages: 11})
	if err == nil {
		t.Error("eleven messages at once")
	}
}
