package moto

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"managed-credentials/shared/local/standin"
)

const apiGet = "https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"

// vault is a Secrets Manager with one secret, whose value is "one".
type vault struct {
	t      *testing.T
	client *sm.Client
	name   string
	// put gives the secret a value, and markDelete marks it for deletion.
	put        func(value string) error
	markDelete func() error
}

// get reads a secret, and says what was wrong with that.
func (v *vault) get(in *sm.GetSecretValueInput) string {
	out, err := v.client.GetSecretValue(v.t.Context(), in)
	if err != nil {
		return answerOf("", err)
	}
	return aws.ToString(out.SecretString)
}

// read is get of the secret by its name.
func (v *vault) read() string { return v.get(&sm.GetSecretValueInput{SecretId: &v.name}) }

// arn is the secret's.
func (v *vault) arn() string {
	v.t.Helper()
	out, err := v.client.GetSecretValue(v.t.Context(), &sm.GetSecretValueInput{SecretId: &v.name})
	if err != nil {
		v.t.Fatal(err)
	}
	return *out.ARN
}

// do fails the test if f does.
func (v *vault) do(f func() error) {
	v.t.Helper()
	err := f()
	if err != nil {
		v.t.Fatal(err)
	}
}

var missing = difference{"ResourceNotFoundException 404", apiGet + "#API_GetSecretValue_Errors"}

var secretCases = []struct {
	name string
	do   func(v *vault) string
	want string
	moto difference
}{
	{
		name: "a secret is found by its name",
		do:   func(v *vault) string { return v.read() },
		want: "one",
	},
	{
		name: "a secret is found by its ARN",
		do:   func(v *vault) string { return v.get(&sm.GetSecretValueInput{SecretId: aws.String(v.arn())}) },
		want: "one",
	},
	{
		name: "a secret is found by its ARN without the random end",
		do: func(v *vault) string {
			arn := v.arn()
			return v.get(&sm.GetSecretValueInput{SecretId: aws.String(arn[:len(arn)-7])})
		},
		want: "one",
	},
	{
		name: "an ARN ends with a hyphen and six characters",
		do: func(v *vault) string {
			_, end, ok := strings.Cut(v.arn(), ":secret:"+v.name+"-")
			return fmt.Sprint(ok, len(end))
		},
		want: "true 6",
	},
	{
		name: "a secret that is missing is not found",
		do:   func(v *vault) string { return v.get(&sm.GetSecretValueInput{SecretId: aws.String("nobodys")}) },
		want: "ResourceNotFoundException 400",
		moto: missing,
	},
	{
		name: "a label that is nowhere is not found",
		do: func(v *vault) string {
			return v.get(&sm.GetSecretValueInput{SecretId: &v.name, VersionStage: aws.String("AWSPENDING")})
		},
		want: "ResourceNotFoundException 400",
		moto: missing,
	},
	{
		name: "a new value is current",
		do: func(v *vault) string {
			v.do(func() error { return v.put("two") })
			return v.read() + " " + v.get(&sm.GetSecretValueInput{SecretId: &v.name, VersionStage: aws.String("AWSCURRENT")})
		},
		want: "two two",
	},
	{
		name: "a secret marked for deletion is not read",
		do: func(v *vault) string {
			v.do(v.markDelete)
			return v.read()
		},
		want: "InvalidRequestException 400",
	},
}

func TestSecretsManager(t *testing.T) {
	url := startMoto(t)
	for _, c := range secretCases {
		t.Run(c.name, func(t *testing.T) {
			c.moto.check(t, false, c.do(standInSecrets(t)), c.want)
			if url != "" {
				c.moto.check(t, true, c.do(motoSecrets(t, url)), c.want)
			}
		})
	}
}

func newVault(t *testing.T, url string) *vault {
	return &vault{t: t, name: "managed/" + uuid.NewString() + "/keys", client: sm.New(sm.Options{
		Region:       region,
		BaseEndpoint: &url,
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer:      aws.NopRetryer{},
	})}
}

func standInSecrets(t *testing.T) *vault {
	t.Helper()
	server := standin.NewSecrets(nil)
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	v := newVault(t, web.URL)
	v.put = func(value string) error { server.Put(v.name, value); return nil }
	v.markDelete = func() error { server.MarkDeleted(v.name); return nil }
	server.Put(v.name, "one")
	return v
}

func motoSecrets(t *testing.T, url string) *vault {
	t.Helper()
	v := newVault(t, url)
	v.put = func(value string) error {
		_, err := v.client.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: &v.name, SecretString: &value})
		return err
	}
	v.markDelete = func() error {
		_, err := v.client.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: &v.name})
		return err
	}
	_, err := v.client.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: &v.name, SecretString: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
