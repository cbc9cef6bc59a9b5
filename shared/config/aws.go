package config

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

const (
	// callTimeout bounds one HTTP exchange with an AWS service, so that one that hangs leaves time
	// for the SDK's retries.
	callTimeout = 3 * time.Second
	dialTimeout = time.Second
)

// AWS is the configuration of the SDK's clients, as the process's environment has it, in which
// Lambda puts the role's credentials and the region: endpoints, the number of tries, FIPS and
// dual-stack endpoints, a bundle of certificates and the application's id, in the SDK's own
// variables. Profiles, and other places that credentials may come from, are not looked at: what
// reads them is a fifth of a function, and Lambda has none. What the SDK itself has to say goes to
// log.
func AWS(_ context.Context, log *slog.Logger) (aws.Config, error) {
	client := awshttp.NewBuildableClient().WithTimeout(callTimeout).WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout })
	authorities, err := bundle(os.Getenv("AWS_CA_BUNDLE"))
	if err != nil {
		return aws.Config{}, fmt.Errorf("reading AWS_CA_BUNDLE: %w", err)
	}
	client = client.WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = t.MaxIdleConns // nearly all calls are to one host; the SDK would keep ten
		if authorities != nil {
			t.TLSClientConfig = &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}
		}
	})
	c := aws.Config{
		Region:        cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
		Credentials:   credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")),
		HTTPClient:    client,
		Logger:        sdkLog{context.Background(), log},
		Retryer:       func() aws.Retryer { return resigning{retry.NewStandard()} },
		ConfigSources: []any{environment{}},
		AppID:         os.Getenv("AWS_SDK_UA_APP_ID"),
	}
	endpoint := os.Getenv("AWS_ENDPOINT_URL")
	if endpoint != "" {
		c.BaseEndpoint = &endpoint
	}
	tries := os.Getenv("AWS_MAX_ATTEMPTS")
	if tries != "" {
		c.RetryMaxAttempts, err = strconv.Atoi(tries)
		if err != nil || c.RetryMaxAttempts < 1 {
			return aws.Config{}, fmt.Errorf("AWS_MAX_ATTEMPTS has to be a whole number from 1 on, not %q", tries)
		}
	}
	return c, nil
}

// bundle reads the certificates of the authorities that are trusted; nil means the system's.
func bundle(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	certificates, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(certificates) {
		return nil, errors.New("it has no certificate")
	}
	return pool, nil
}

// environment tells the SDK's clients what they ask for when they are made.
type environment struct{}

// GetServiceBaseEndpoint is the endpoint of one service.
func (environment) GetServiceBaseEndpoint(_ context.Context, service string) (string, bool, error) {
	endpoint := os.Getenv("AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(service, " ", "_")))
	return endpoint, endpoint != "", nil
}

// GetUseFIPSEndpoint says whether FIPS endpoints are to be used.
func (environment) GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error) {
	switch os.Getenv("AWS_USE_FIPS_ENDPOINT") {
	case "true":
		return aws.FIPSEndpointStateEnabled, true, nil
	case "false":
		return aws.FIPSEndpointStateDisabled, true, nil
	default:
		return aws.FIPSEndpointStateUnset, false, nil
	}
}

// GetUseDualStackEndpoint says whether dual-stack endpoints are to be used.
func (environment) GetUseDualStackEndpoint(context.Context) (aws.DualStackEndpointState, bool, error) {
	switch os.Getenv("AWS_USE_DUALSTACK_ENDPOINT") {
	case "true":
		return aws.DualStackEndpointStateEnabled, true, nil
	case "false":
		return aws.DualStackEndpointStateDisabled, true, nil
	default:
		return aws.DualStackEndpointStateUnset, false, nil
	}
}

// Resign repeats a call that AWS refused for the time of its signature, once, and no other: for
// calls that must not run twice.
func Resign() aws.Retryer {
	return resigning{retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.Retryables = 2, nil })}
}

// resigning also repeats, at once, what AWS refused for the time of its signature. Nothing was
// done, and each repeat is signed anew.
type resigning struct{ aws.RetryerV2 }

// IsErrorRetryable implements aws.Retryer.
func (r resigning) IsErrorRetryable(err error) bool {
	return mistimed(err) || r.RetryerV2.IsErrorRetryable(err)
}

// RetryDelay implements aws.Retryer.
func (r resigning) RetryDelay(attempt int, err error) (time.Duration, error) {
	if mistimed(err) {
		return 0, nil
	}
	return r.RetryerV2.RetryDelay(attempt, err)
}

// mistimed reports whether AWS refused a call because its signature was not of this moment. A
// process that is frozen between signing a request and sending it sends an old signature:
// https://github.com/aws/aws-sdk-js-v3/issues/7605. The SDK itself repeats a call only if the
// clocks differ by minutes, and signs by AWS's clock then. After a freeze they agree again.
func mistimed(err error) bool {
	var refused smithy.APIError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.ErrorCode() {
	case "RequestTimeTooSkewed", "RequestExpired":
		return true
	case "InvalidSignatureException", "SignatureDoesNotMatch": // a wrong key gets them, too
		message := refused.ErrorMessage()
		return strings.HasPrefix(message, "Signature expired") || strings.HasPrefix(message, "Signature not yet current")
	default:
		return false
	}
}

// sdkLog has the SDK's own words logged like all others, where it would write plain text.
type sdkLog struct {
	ctx context.Context
	log *slog.Logger
}

// WithContext implements logging.ContextLogger: the context of a call holds its request's id.
func (l sdkLog) WithContext(ctx context.Context) logging.Logger { return sdkLog{ctx, l.log} }

// Logf implements logging.Logger.
func (l sdkLog) Logf(class logging.Classification, format string, values ...any) {
	level := slog.LevelDebug
	if class == logging.Warn {
		level = slog.LevelWarn
	}
	l.log.Log(l.ctx, level, "the AWS SDK reports", "text", fmt.Sprintf(format, values...))
}
