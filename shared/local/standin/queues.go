package standin

import (
	"crypto/md5"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// defaultVisibility is how long a received message is hidden if the request does not say, as with a
// queue's own default.
const defaultVisibility = 30 * time.Second

// mostMessages is how many messages one request may receive
// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html).
const mostMessages = 10

// QueuesConfig says which queues there are.
type QueuesConfig struct {
	// Queues are the URLs by which requests name them. They need not lead anywhere.
	Queues []string
	// Now is the clock of visibility; nil means time.Now.
	Now func() time.Time
}

// Queues stands in for Amazon SQS, as far as somebody who works through a queue needs it: receiving
// messages and deleting them. Queues are standard ones; a message that was received is hidden for
// its visibility timeout, and comes back unless it was deleted. It is an http.Handler, safe for
// concurrent use.
type Queues struct {
	api service
	now func() time.Time

	mu     sync.Mutex
	queues map[string][]*message
}

type message struct {
	id, body  string
	receipt   string // of the last time that it was received
	visibleAt time.Time
}

// NewQueues makes a server with empty queues.
func NewQueues(cfg QueuesConfig) *Queues {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Queues{now: cfg.Now, queues: map[string][]*message{}}
	for _, url := range cfg.Queues {
		s.queues[url] = nil
	}
	s.api = service{target: "AmazonSQS", operations: map[string]operation{
		"ReceiveMessage": op(s.receiveMessage),
		"DeleteMessage":  op(s.deleteMessage),
	}}
	return s
}

func (s *Queues) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.api.ServeHTTP(w, r) }

// Send puts a message into a queue.
func (s *Queues) Send(queue, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[queue] = append(s.queues[queue], &message{id: uuid.NewString(), body: body})
}

// Bodies are those of a queue's messages, hidden ones included, the oldest first.
func (s *Queues) Bodies(queue string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	bodies := make([]string, len(s.queues[queue]))
	for i, m := range s.queues[queue] {
		bodies[i] = m.body
	}
	return bodies
}

// Show makes a queue's hidden messages visible, as when their time is over.
func (s *Queues) Show(queue string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.queues[queue] {
		m.visibleAt = time.Time{}
	}
}

type receiveInput struct {
	QueueURL            string `json:"QueueUrl"`
	MaxNumberOfMessages *int
	VisibilityTimeout   *int
	// WaitTimeSeconds is not waited for: a queue here is at once known to be empty.
	WaitTimeSeconds int
}

type received struct {
	MessageID     string `json:"MessageId"`
	ReceiptHandle string
	MD5OfBody     string
	Body          string
}

func (s *Queues) receiveMessage(in receiveInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages, ok := s.queues[in.QueueURL]
	if !ok {
		return nil, errNoQueue
	}
	limit, hidden := 1, defaultVisibility
	if in.MaxNumberOfMessages != nil {
		limit = *in.MaxNumberOfMessages
	}
	if limit < 1 || limit > mostMessages {
		return nil, refuse("InvalidParameterValue", "Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.", limit)
	}
	if in.VisibilityTimeout != nil {
		hidden = time.Duration(*in.VisibilityTimeout) * time.Second
	}
	var out struct{ Messages []received }
	for _, m := range messages {
		if m.visibleAt.After(s.now()) || len(out.Messages) == limit {
			continue
		}
		m.receipt, m.visibleAt = uuid.NewString(), s.now().Add(hidden)
		sum := md5.Sum([]byte(m.body)) // the protocol's checksum
		out.Messages = append(out.Messages, received{m.id, m.receipt, hex.EncodeToString(sum[:]), m.body})
	}
	return out, nil
}

type deleteInput struct {
	QueueURL      string `json:"QueueUrl"`
	ReceiptHandle string
}

// deleteMessage takes any of our receipts: one whose message is gone, or was received again since,
// deletes nothing and is no error.
func (s *Queues) deleteMessage(in deleteInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages, ok := s.queues[in.QueueURL]
	if !ok {
		return nil, errNoQueue
	}
	if uuid.Validate(in.ReceiptHandle) != nil {
		return nil, refuse("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
	}
	s.queues[in.QueueURL] = slices.DeleteFunc(messages, func(m *message) bool { return m.receipt == in.ReceiptHandle })
	return nil, nil
}

var errNoQueue = refuse("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
