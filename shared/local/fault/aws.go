package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

// The parts of X-Amz-Target before the dot that matter here.
const (
	dynamoDB = "DynamoDB_20120810"
	cognito  = "AWSCognitoIdentityProviderService"
)

// AWSError answers with an error in the shape of the AWS service that the call is for. Without a
// message the error has none.
func AWSError(status int, code, message string) Fault {
	return func(_ context.Context, c *Call) (*Answer, error) {
		fields := map[string]any{}
		if message != "" {
			fields["message"] = message
		}
		return awsError(c, status, code, fields), nil
	}
}

func awsError(c *Call, status int, code string, fields map[string]any) *Answer {
	header := http.Header{}
	header.Set("Content-Type", c.Header.Get("Content-Type"))
	header.Set("X-Amzn-Requestid", uuid.NewString())
	fields["__type"] = code
	if c.Service == dynamoDB {
		fields["__type"] = "com.amazonaws.dynamodb.v20120810#" + code
	}
	body, err := json.Marshal(fields)
	if err != nil {
		panic(err) // The fields are strings and lists of strings.
	}
	if c.Service == dynamoDB {
		header.Set(checksumHeader, checksum(body))
	}
	return &Answer{Status: status, Header: header, Body: body}
}

// Throttled refuses the call the way its service does when there are too many:
// ProvisionedThroughputExceededException for DynamoDB, TooManyRequestsException for Cognito, else
// ThrottlingException. The SDK repeats all three by itself.
func Throttled() Fault {
	return func(ctx context.Context, c *Call) (*Answer, error) {
		code, message := "ThrottlingException", "Rate exceeded"
		switch c.Service {
		case dynamoDB:
			code = "ProvisionedThroughputExceededException"
			message = "The level of configured provisioned throughput for the table was exceeded. " +
				"Consider increasing your provisioning level with the UpdateTable API."
		case cognito:
			code = "TooManyRequestsException"
		}
		return AWSError(http.StatusBadRequest, code, message)(ctx, c)
	}
}

const ongoing = "Transaction is ongoing for the item"

// TransactionConflict refuses a DynamoDB write because another transaction holds its item: a single
// write gets TransactionConflictException, a transaction is cancelled on account of its first item.
// The SDK does not repeat either.
func TransactionConflict() Fault {
	return func(ctx context.Context, c *Call) (*Answer, error) {
		switch c.Op {
		case "PutItem", "UpdateItem", "DeleteItem":
			return AWSError(http.StatusBadRequest, "TransactionConflictException", ongoing)(ctx, c)
		default:
			return TransactionCanceled("TransactionConflict")(ctx, c)
		}
	}
}

// TransactionCanceled cancels a DynamoDB transaction for the given reasons, one for each item in
// the request's order: "None", "ConditionalCheckFailed", "TransactionConflict", "ThrottlingError"
// and so on. The items that are left over get "None". See
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html.
func TransactionCanceled(codes ...string) Fault {
	return func(_ context.Context, c *Call) (*Answer, error) {
		var request struct{ TransactItems []json.RawMessage }
		err := json.Unmarshal(c.Body, &request)
		if err != nil {
			return nil, fmt.Errorf("reading the items of %s: %w", c.Op, err)
		}
		if len(request.TransactItems) < max(len(codes), 1) {
			return nil, fmt.Errorf("cancelling %s: %d reasons for %d items", c.Op, len(codes), len(request.TransactItems))
		}
		all := make([]string, len(request.TransactItems))
		reasons := make([]reason, len(request.TransactItems))
		for i := range reasons {
			all[i] = "None"
			if i < len(codes) {
				all[i] = codes[i]
			}
			reasons[i] = reason{Code: all[i], Message: reasonMessages[all[i]]}
		}
		return awsError(c, http.StatusBadRequest, "TransactionCanceledException", map[string]any{
			"CancellationReasons": reasons,
			"Message": "Transaction cancelled, please refer cancellation reasons for specific reasons [" +
				strings.Join(all, ", ") + "]",
		}), nil
	}
}

type reason struct {
	Code    string
	Message string `json:",omitempty"`
}

var reasonMessages = map[string]string{
	"ConditionalCheckFailed": "The conditional request failed",
	"TransactionConflict":    ongoing,
}

// Key is the primary key of a DynamoDB item as the protocol writes it: Key["pk"]["S"] is the string
// attribute pk.
type Key map[string]map[string]string

// UnprocessedKeys leaves the keys that match out of a BatchGetItem and gives them back as
// unprocessed. If that leaves nothing, the call is throttled, which is what DynamoDB does then.
func UnprocessedKeys(match func(Key) bool) Fault {
	return func(ctx context.Context, c *Call) (*Answer, error) {
		if c.Op != "BatchGetItem" {
			return nil, fmt.Errorf("leaving keys unprocessed: %s has none", c.Op)
		}
		request, unprocessed, err := withoutKeys(c.Body, match)
		if err != nil {
			return nil, fmt.Errorf("leaving keys unprocessed: %w", err)
		}
		if request == nil {
			return Throttled()(ctx, c)
		}
		reduced := *c
		reduced.Body = request
		a, err := reduced.Forward(ctx)
		if err != nil || a.Status != http.StatusOK {
			return a, err
		}
		body, err := withField(a.Body, "UnprocessedKeys", unprocessed)
		if err != nil {
			return nil, fmt.Errorf("adding unprocessed keys: %w", err)
		}
		a.SetBody(body)
		return a, nil
	}
}

// tableKeys is what a BatchGetItem asks of one table:
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_KeysAndAttributes.html.
type tableKeys struct {
	Keys                     []Key
	ConsistentRead           bool              `json:",omitempty"`
	ProjectionExpression     string            `json:",omitempty"`
	ExpressionAttributeNames map[string]string `json:",omitempty"`
	AttributesToGet          []string          `json:",omitempty"`
}

// withoutKeys splits a BatchGetItem into what to forward, nil if that is nothing, and the tables
// with the keys that matched.
func withoutKeys(body []byte, match func(Key) bool) (request []byte, matched map[string]tableKeys, err error) {
	var in struct{ RequestItems map[string]tableKeys }
	err = json.Unmarshal(body, &in)
	if err != nil {
		return nil, nil, err
	}
	kept := map[string]tableKeys{}
	matched = map[string]tableKeys{}
	for table, asked := range in.RequestItems {
		keep, leave := asked, asked
		keep.Keys, leave.Keys = nil, nil
		for _, key := range asked.Keys {
			if match(key) {
				leave.Keys = append(leave.Keys, key)
			} else {
				keep.Keys = append(keep.Keys, key)
			}
		}
		if len(keep.Keys) > 0 {
			kept[table] = keep
		}
		if len(leave.Keys) > 0 {
			matched[table] = leave
		}
	}
	if len(kept) == 0 {
		return nil, matched, nil
	}
	request, err = withField(body, "RequestItems", kept)
	return request, matched, err
}

// withField returns a JSON object with one field set.
func withField(object []byte, name string, value any) ([]byte, error) {
	var fields map[string]json.RawMessage
	err := json.Unmarshal(object, &fields)
	if err != nil {
		return nil, err
	}
	fields[name], err = json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}
