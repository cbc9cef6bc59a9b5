package fault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	idp "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	idptypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"managed-credentials/shared/local/fault"
)

// startDynamoDB puts a proxy in front of a table that answers a BatchGetItem with the keys that it
// was asked for, and anything else with nothing, always with a checksum.
func startDynamoDB(t *testing.T) (*fault.Proxy, *dynamodb.Client) {
	t.Helper()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			RequestItems map[string]struct{ Keys []any }
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		err = json.Unmarshal(body, &in)
		if err != nil {
			t.Error(err)
		}
		out := map[string]any{}
		if in.RequestItems != nil {
			responses := map[string]any{}
			for table, asked := range in.RequestItems {
				responses[table] = asked.Keys
			}
			out["Responses"] = responses
			out["UnprocessedKeys"] = map[string]any{}
		}
		answer, err := json.Marshal(out)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(answer)), 10))
		_, _ = w.Write(answer)
	}))
	t.Cleanup(target.Close)
	p, url := proxy(t, target.URL)
	return p, dynamodb.New(dynamodb.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(url),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer:      standardRetryer(),
		Logger: logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
			t.Errorf("the SDK warns: "+format, args...) // A checksum that does not match is no error to it.
		}),
	})
}

func key(sk string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		"pk": &types.AttributeValueMemberS{Value: "USER#ada"},
		"sk": &types.AttributeValueMemberS{Value: sk},
	}
}

func TestASingleWriteMeetsATransactionConflictThatTheSDKDoesNotRepeat(t *testing.T) {
	t.Parallel()
	p, client := startDynamoDB(t)
	p.SetHook(always(fault.TransactionConflict()))
	table := aws.String("table")
	_, putErr := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: table, Item: key("a")})
	_, updateErr := client.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: table, Key: key("a")})
	_, deleteErr := client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: table, Key: key("a")})
	for _, err := range []error{putErr, updateErr, deleteErr} {
		var conflict *types.TransactionConflictException
		if !errors.As(err, &conflict) || conflict.ErrorMessage() != "Transaction is ongoing for the item" {
			t.Errorf("got %v", err)
		}
	}
	if n := len(p.Calls()); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

func TestATransactionIsCancelledWithOneReasonForEachItem(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault fault.Fault
		want  []string
	}{
		"conflict":        {fault.TransactionConflict(), []string{"TransactionConflict", "None", "None"}},
		"given reasons":   {fault.TransactionCanceled("None", "ConditionalCheckFailed"), []string{"None", "ConditionalCheckFailed", "None"}},
		"no reason given": {fault.TransactionCanceled(), []string{"None", "None", "None"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, client := startDynamoDB(t)
			p.SetHook(always(tc.fault))
			err := transact(t, client, 3)
			var canceled *types.TransactionCanceledException
			if !errors.As(err, &canceled) {
				t.Fatalf("got %v", err)
			}
			var codes []string
			for _, r := range canceled.CancellationReasons {
				codes = append(codes, *r.Code)
				if (r.Message == nil) != (*r.Code == "None") {
					t.Errorf("%s has message %v", *r.Code, r.Message)
				}
			}
			if !slices.Equal(codes, tc.want) {
				t.Errorf("reasons %v, want %v", codes, tc.want)
			}
			if p.Count("TransactWriteItems") != 1 {
				t.Errorf("%d calls", p.Count("TransactWriteItems"))
			}
		})
	}
}

func transact(t *testing.T, client *dynamodb.Client, items int) error {
	t.Helper()
	in := &dynamodb.TransactWriteItemsInput{}
	for i := range items {
		in.TransactItems = append(in.TransactItems, types.TransactWriteItem{
			Put: &types.Put{TableName: aws.String("table"), Item: key(fmt.Sprint(i))},
		})
	}
	_, err := client.TransactWriteItems(t.Context(), in)
	return err
}

func TestAFaultThatDoesNotFitTheCallSaysSo(t *testing.T) {
	t.Parallel()
	p, client := startDynamoDB(t)
	table := aws.String("table")
	for name, tc := range map[string]struct {
		fault fault.Fault
		call  func() error
		want  string
	}{
		"more reasons than items": {
			fault.TransactionCanceled("None", "None"), func() error { return transact(t, client, 1) },
			"fault: cancelling TransactWriteItems: 2 reasons for 1 items",
		},
		"conflict of a read": {
			fault.TransactionConflict(), func() error {
				_, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: table, Key: key("a")})
				return err
			},
			"fault: cancelling GetItem: 1 reasons for 0 items",
		},
		"keys of a transaction": {
			fault.UnprocessedKeys(func(fault.Key) bool { return true }), func() error { return transact(t, client, 1) },
			"fault: leaving keys unprocessed: TransactWriteItems has none",
		},
	} {
		p.SetHook(always(tc.fault))
		err := tc.call()
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != "BadGateway" || api.ErrorMessage() != tc.want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestEveryServiceThrottlesInItsOwnWordsAndTheSDKRepeats(t *testing.T) {
	t.Parallel()
	t.Run("DynamoDB", func(t *testing.T) {
		t.Parallel()
		p, client := startDynamoDB(t)
		p.SetHook(always(fault.Throttled()))
		_, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("table"), Key: key("a")})
		var throttled *types.ProvisionedThroughputExceededException
		if !errors.As(err, &throttled) {
			t.Errorf("got %v", err)
		}
		wantRepeated(t, p, "GetItem")
	})
	t.Run("KMS", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		s.proxy.SetHook(always(fault.Throttled()))
		err := encrypt(t.Context(), s.clientWith(standardRetryer()))
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != "ThrottlingException" {
			t.Errorf("got %v", err)
		}
		wantRepeated(t, s.proxy, "Encrypt")
	})
	t.Run("Cognito", func(t *testing.T) {
		t.Parallel()
		p, url := proxy(t, "http://127.0.0.1:0")
		p.SetHook(always(fault.Throttled()))
		client := idp.New(idp.Options{
			Region:       "us-east-1",
			BaseEndpoint: aws.String(url),
			Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
			Retryer:      standardRetryer(),
		})
		_, err := client.AdminGetUser(t.Context(), &idp.AdminGetUserInput{UserPoolId: aws.String("p"), Username: aws.String("u")})
		var throttled *idptypes.TooManyRequestsException
		if !errors.As(err, &throttled) {
			t.Errorf("got %v", err)
		}
		wantRepeated(t, p, "AdminGetUser")
	})
}

func wantRepeated(t *testing.T, p *fault.Proxy, op string) {
	t.Helper()
	if n := p.Count(op); n != 3 {
		t.Errorf("%d calls, the SDK makes 3 by default", n)
	}
}

func TestChosenKeysComeBackUnprocessed(t *testing.T) {
	t.Parallel()
	p, client := startDynamoDB(t)
	var mu sync.Mutex
	var strange []fault.Key
	p.SetHook(always(fault.UnprocessedKeys(func(k fault.Key) bool {
		mu.Lock()
		defer mu.Unlock()
		if k["pk"]["S"] != "USER#ada" {
			strange = append(strange, k)
		}
		return k["sk"]["S"] == "ACCOUNT"
	})))
	out, err := client.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
		RequestItems: map[string]types.KeysAndAttributes{
			"table": {
				Keys:                     []map[string]types.AttributeValue{key("ACCOUNT"), key("CRED#a")},
				ConsistentRead:           aws.Bool(true),
				ProjectionExpression:     aws.String("#p"),
				ExpressionAttributeNames: map[string]string{"#p": "pk"},
			},
			"dead":   {Keys: []map[string]types.AttributeValue{key("ACCOUNT")}},
			"living": {Keys: []map[string]types.AttributeValue{key("CRED#b")}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(strange) > 0 {
		t.Errorf("keys were read as %v", strange)
	}
	if got := sortKeys(out.Responses["table"]); !slices.Equal(got, []string{"CRED#a"}) {
		t.Errorf("table answered %v", got)
	}
	if got := sortKeys(out.Responses["living"]); !slices.Equal(got, []string{"CRED#b"}) {
		t.Errorf("living answered %v", got)
	}
	if len(out.Responses["dead"]) != 0 || len(out.UnprocessedKeys) != 2 {
		t.Errorf("dead answered %v, unprocessed are %v", out.Responses["dead"], out.UnprocessedKeys)
	}
	left := out.UnprocessedKeys["table"]
	if got := sortKeys(left.Keys); !slices.Equal(got, []string{"ACCOUNT"}) {
		t.Errorf("unprocessed of table: %v", got)
	}
	if !aws.ToBool(left.ConsistentRead) || aws.ToString(left.ProjectionExpression) != "#p" || left.ExpressionAttributeNames["#p"] != "pk" {
		t.Errorf("the unprocessed keys of table cannot be asked for again as they are: %+v", left)
	}
	if got := sortKeys(out.UnprocessedKeys["dead"].Keys); !slices.Equal(got, []string{"ACCOUNT"}) {
		t.Errorf("unprocessed of dead: %v", got)
	}
}

// sortKeys returns the sort keys of items.
func sortKeys(items []map[string]types.AttributeValue) []string {
	var keys []string
	for _, item := range items {
		keys = append(keys, item["sk"].(*types.AttributeValueMemberS).Value)
	}
	return keys
}

func TestABatchOfWhichNothingIsProcessedIsThrottled(t *testing.T) {
	t.Parallel()
	p, client := startDynamoDB(t)
	p.SetHook(always(fault.UnprocessedKeys(func(fault.Key) bool { return true })))
	_, err := client.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{
		RequestItems: map[string]types.KeysAndAttributes{"table": {Keys: []map[string]types.AttributeValue{key("a")}}},
	})
	var throttled *types.ProvisionedThroughputExceededException
	if !errors.As(err, &throttled) {
		t.Errorf("got %v", err)
	}
}

func TestABatchWithoutChosenKeysIsAnsweredWhole(t *testing.T) {
	t.Parallel()
	p, client := startDynamoDB(t)
	p.SetHook(always(fault.UnprocessedKeys(func(fault.Key) bool { return false })))
	out, err := client.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{
		RequestItems: map[string]types.KeysAndAttributes{"table": {Keys: []map[string]types.AttributeValue{key("a")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Responses["table"]) != 1 || len(out.UnprocessedKeys) != 0 {
		t.Errorf("answered %v, unprocessed %v", out.Responses, out.UnprocessedKeys)
	}
}
