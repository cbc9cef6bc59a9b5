package config_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"managed-credentials/shared/config"
	"managed-credentials/shared/store"
)

// refusing is an AWS endpoint that refuses the first call, and notes when each call was signed.
type refusing struct {
	code, message string
	// ahead is how far its clock is before this machine's.
	ahead  time.Duration
	signed []time.Time
}

func (r *refusing) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	at, _ := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
	r.signed = append(r.signed, at)
	w.Header().Set("Date", time.Now().Add(r.ahead).UTC().Format(http.TimeFormat))
	if len(r.signed) == 1 {
		w.Header().Set("X-Amzn-Errortype", r.code)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"__type":%q,"message":%q}`, r.code, r.message)
		return
	}
	_, _ = io.WriteString(w, "{}")
}

// calls are one for each service that the functions use.
var calls = map[string]func(context.Context, aws.Config) error{
	"cognitoidentityprovider": func(ctx context.Context, c aws.Config) error {
		_, err := cognitoidentityprovider.NewFromConfig(c).AdminGetUser(ctx,
			&cognitoidentityprovider.AdminGetUserInput{UserPoolId: aws.String("pool"), Username: aws.String("alice")})
		return err
	},
	"dynamodb": func(ctx context.Context, c aws.Config) error {
		_, err := store.Client(c).Query(ctx, &dynamodb.QueryInput{TableName: aws.String("table")})
		return err
	},
	"kms": func(ctx context.Context, c aws.Config) error {
		_, err := kms.NewFromConfig(c).Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("key"), Plaintext: []byte("text")})
		return err
	},
	"lambda": func(ctx context.Context, c aws.Config) error {
		_, err := awslambda.NewFromConfig(c).Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("function")})
		return err
	},
	"lambda, a call that must not run twice": func(ctx context.Context, c aws.Config) error {
		_, err := awslambda.NewFromConfig(c, func(o *awslambda.Options) { o.Retryer = config.Resign() }).Invoke(ctx,
			&awslambda.InvokeInput{FunctionName: aws.String("function")})
		return err
	},
	"secretsmanager": func(ctx context.Context, c aws.Config) error {
		_, err := secretsmanager.NewFromConfig(c).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("secret")})
		return err
	},
	"sqs": func(ctx context.Context, c aws.Config) error {
		_, err := sqs.NewFromConfig(c).ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String("queue")})
		return err
	},
}

// against makes a call to an endpoint.
func against(t *testing.T, endpoint *refusing, call func(context.Context, aws.Config) error) error {
	t.Helper()
	server := httptest.NewServer(endpoint)
	defer server.Close()
	alone(t)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	c, err := config.AWS(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return call(t.Context(), c)
}

const expired = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z (20260101T001500Z - 5 min.)"

func TestASignatureThatAFreezeMadeOldIsMadeAnew(t *testing.T) {
	for service, call := range calls {
		for code, message := range map[string]string{
			"InvalidSignatureException": expired, "SignatureDoesNotMatch": expired, "RequestTimeTooSkewed": "", "RequestExpired": "",
		} {
			endpoint := &refusing{code: code, message: message}
			err := against(t, endpoint, call)
			if err != nil || len(endpoint.signed) != 2 {
				t.Errorf("%s: after %s the call was sent %d times: %v", service, code, len(endpoint.signed), err)
			}
		}
	}
}

// The SDK goes on by the service's clock, as far as that differs.
func TestASignatureGoesByTheClockOfAWS(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		endpoint := &refusing{code: "InvalidSignatureException", message: expired, ahead: ahead}
		err := against(t, endpoint, calls["dynamodb"])
		if err != nil || len(endpoint.signed) != 2 {
			t.Fatalf("the call was sent %d times: %v", len(endpoint.signed), err)
		}
		corrected := endpoint.signed[1].Sub(endpoint.signed[0])
		if (corrected - ahead).Abs() > time.Minute {
			t.Errorf("AWS's clock is %v ahead, and the second signature %v", ahead, corrected)
		}
	}
}

func TestASignatureThatIsWrongIsNotMadeAnew(t *testing.T) {
	for service, call := range calls {
		endpoint := &refusing{code: "InvalidSignatureException", message: "The request signature we calculated does not match the signature you provided."}
		err := against(t, endpoint, call)
		if err == nil || len(endpoint.signed) != 1 {
			t.Errorf("%s: the call was sent %d times: %v", service, len(endpoint.signed), err)
		}
	}
}

func TestACallThatMustNotRunTwiceIsRepeatedForNothingElse(t *testing.T) {
	endpoint := &refusing{code: "ThrottlingException"}
	err := against(t, endpoint, calls["lambda, a call that must not run twice"])
	if err == nil || len(endpoint.signed) != 1 {
		t.Errorf("the call was sent %d times: %v", len(endpoint.signed), err)
	}
}
