package secretsmanager_test

import (
	"errors"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"managed-credentials/shared/local/secretsmanager"
)

const name = "managed/org-keys"

func start(t *testing.T) (*secretsmanager.Server, *sm.Client) {
	t.Helper()
	server := secretsmanager.New(secretsmanager.Config{
		Region:  "eu-west-1",
		Account: "123456789012",
		Secrets: map[string]string{name: "one", "managed/another": "other"},
	})
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	return server, sm.New(sm.Options{
		Region:       "eu-west-1",
		BaseEndpoint: aws.String(web.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
}

// get reads a secret by whichever of version id and label is not empty.
func get(t *testing.T, client *sm.Client, id, version, label string) (*sm.GetSecretValueOutput, error) {
	t.Helper()
	in := &sm.GetSecretValueInput{SecretId: aws.String(id)}
	if version != "" {
		in.VersionId = aws.String(version)
	}
	if label != "" {
		in.VersionStage = aws.String(label)
	}
	return client.GetSecretValue(t.Context(), in)
}

// labels returns the value that each staging label of the secret stands for.
func labels(t *testing.T, client *sm.Client) map[string]string {
	t.Helper()
	described, err := client.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(name)})
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for version, stages := range described.VersionIdsToStages {
		out, err := get(t, client, name, version, "")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(out.VersionStages, stages) {
			t.Errorf("version %s: described with %v, read with %v", version, stages, out.VersionStages)
		}
		for _, stage := range stages {
			values[stage] = *out.SecretString
		}
	}
	return values
}

func wantLabels(t *testing.T, client *sm.Client, want map[string]string) {
	t.Helper()
	if got := labels(t, client); !maps.Equal(got, want) {
		t.Errorf("labels are %v, want %v", got, want)
	}
}

func wantError(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %v, want %s: %s", err, code, message)
	}
}

func put(t *testing.T, client *sm.Client, value string, stages ...string) string {
	t.Helper()
	out, err := client.PutSecretValue(t.Context(), &sm.PutSecretValueInput{
		SecretId: aws.String(name), SecretString: aws.String(value), VersionStages: stages,
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.VersionId
}

func TestASecretIsFoundByNameByARNAndByPartialARN(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	byName, err := get(t, client, name, "", "")
	if err != nil {
		t.Fatal(err)
	}
	const partial = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:" + name
	suffix, found := strings.CutPrefix(*byName.ARN, partial+"-")
	if !found || len(suffix) != 6 {
		t.Errorf("ARN %s", *byName.ARN)
	}
	for _, id := range []string{*byName.ARN, partial} {
		out, err := get(t, client, id, "", "")
		if err != nil {
			t.Fatalf("getting %s: %v", id, err)
		}
		if *out.SecretString != "one" || *out.Name != name || *out.ARN != *byName.ARN || *out.VersionId != *byName.VersionId {
			t.Errorf("getting %s gave %s", id, *out.Name)
		}
	}
	if age := time.Since(*byName.CreatedDate); age < -time.Minute || age > time.Hour {
		t.Errorf("created %v ago", age)
	}

	for _, id := range []string{"org-keys", partial + "-000000", partial + "x", strings.Replace(partial, "eu-west-1", "us-east-1", 1)} {
		_, err := get(t, client, id, "", "")
		wantError(t, err, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
}

func TestAPartialARNThatLooksCompleteIsNotCompleted(t *testing.T) {
	t.Parallel()
	server, client := start(t)
	server.Put("keys-prod01", "value")
	_, err := get(t, client, "keys-prod01", "", "")
	if err != nil {
		t.Errorf("by name: %v", err)
	}
	_, err = get(t, client, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:keys-prod01", "", "")
	wantError(t, err, "ResourceNotFoundException", "can't find the specified secret.")
}

func TestANewValueIsCurrentAndTheOneBeforeItPrevious(t *testing.T) {
	t.Parallel()
	server, client := start(t)
	wantLabels(t, client, map[string]string{"AWSCURRENT": "one"})
	put(t, client, "two")
	wantLabels(t, client, map[string]string{"AWSCURRENT": "two", "AWSPREVIOUS": "one"})
	version := server.Put(name, "three")
	wantLabels(t, client, map[string]string{"AWSCURRENT": "three", "AWSPREVIOUS": "two"})

	for label, want := range map[string]string{"": "three", "AWSCURRENT": "three", "AWSPREVIOUS": "two"} {
		out, err := get(t, client, name, "", label)
		if err != nil {
			t.Fatal(err)
		}
		if *out.SecretString != want {
			t.Errorf("label %q gave %q, want %q", label, *out.SecretString, want)
		}
	}
	out, err := get(t, client, name, version, "AWSCURRENT")
	if err != nil {
		t.Fatal(err)
	}
	if *out.SecretString != "three" {
		t.Errorf("version and label gave %q", *out.SecretString)
	}
}

func TestAPendingValueIsNotReadUntilItIsPromoted(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	_, err := get(t, client, name, "", "AWSPENDING")
	wantError(t, err, "ResourceNotFoundException", "can't find the specified secret value for staging label: AWSPENDING")

	before, err := get(t, client, name, "", "")
	if err != nil {
		t.Fatal(err)
	}
	pending := put(t, client, "two", "AWSPENDING")
	wantLabels(t, client, map[string]string{"AWSCURRENT": "one", "AWSPENDING": "two"})

	promote := &sm.UpdateSecretVersionStageInput{
		SecretId: aws.String(name), VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: aws.String(pending),
	}
	_, err = client.UpdateSecretVersionStage(t.Context(), promote)
	wantError(t, err, "InvalidParameterException", "so you must explicitly reference that version in RemoveFromVersionId")
	promote.RemoveFromVersionId = aws.String(pending)
	_, err = client.UpdateSecretVersionStage(t.Context(), promote)
	wantError(t, err, "InvalidParameterException", "it must be set to the version that currently has the staging label AWSCURRENT")
	wantLabels(t, client, map[string]string{"AWSCURRENT": "one", "AWSPENDING": "two"})

	promote.RemoveFromVersionId = before.VersionId
	_, err = client.UpdateSecretVersionStage(t.Context(), promote)
	if err != nil {
		t.Fatal(err)
	}
	wantLabels(t, client, map[string]string{"AWSCURRENT": "two", "AWSPENDING": "two", "AWSPREVIOUS": "one"})

	_, err = client.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{
		SecretId: aws.String(name), VersionStage: aws.String("AWSPENDING"), RemoveFromVersionId: aws.String(pending),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantLabels(t, client, map[string]string{"AWSCURRENT": "two", "AWSPREVIOUS": "one"})
}

func TestRollingBackSwapsCurrentAndPrevious(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	first, err := get(t, client, name, "", "")
	if err != nil {
		t.Fatal(err)
	}
	second := put(t, client, "two")
	_, err = client.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{
		SecretId: aws.String(name), VersionStage: aws.String("AWSCURRENT"),
		MoveToVersionId: first.VersionId, RemoveFromVersionId: aws.String(second),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantLabels(t, client, map[string]string{"AWSCURRENT": "one", "AWSPREVIOUS": "two"})

	// Moving it to where it is changes nothing.
	_, err = client.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{
		SecretId: aws.String(name), VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: first.VersionId,
	})
	if err != nil {
		t.Fatal(err)
	}
	wantLabels(t, client, map[string]string{"AWSCURRENT": "one", "AWSPREVIOUS": "two"})
}

func TestTheCurrentLabelCannotBeTakenAway(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	first, err := get(t, client, name, "", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{
		SecretId: aws.String(name), VersionStage: aws.String("AWSCURRENT"), RemoveFromVersionId: first.VersionId,
	})
	wantError(t, err, "InvalidParameterException", "You can only move staging label AWSCURRENT")
	wantLabels(t, client, map[string]string{"AWSCURRENT": "one"})
}

func TestAnUnknownVersionIsNotFound(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	const unknown = "00000000-0000-0000-0000-000000000000"
	_, err := get(t, client, name, unknown, "")
	wantError(t, err, "ResourceNotFoundException", "can't find the specified secret value for VersionId: "+unknown)
	_, err = client.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{
		SecretId: aws.String(name), VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: aws.String(unknown),
	})
	wantError(t, err, "ResourceNotFoundException", unknown)
}

func TestAVersionWithAnothersLabelIsRefused(t *testing.T) {
	t.Parallel()
	server, client := start(t)
	version := server.Put(name, "two")
	_, err := get(t, client, name, version, "AWSPREVIOUS")
	wantError(t, err, "InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId.")
}

func TestARepeatedTokenAddsNothingAndNeverChangesAValue(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	token := strings.Repeat("t", 32)
	in := &sm.PutSecretValueInput{SecretId: aws.String(name), SecretString: aws.String("two"), ClientRequestToken: aws.String(token)}
	for range 2 {
		out, err := client.PutSecretValue(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if *out.VersionId != token || !slices.Equal(out.VersionStages, []string{"AWSCURRENT"}) {
			t.Errorf("version %s with %v", *out.VersionId, out.VersionStages)
		}
	}
	wantLabels(t, client, map[string]string{"AWSCURRENT": "two", "AWSPREVIOUS": "one"})

	in.SecretString = aws.String("three")
	_, err := client.PutSecretValue(t.Context(), in)
	wantError(t, err, "ResourceExistsException", "already in use")
	wantLabels(t, client, map[string]string{"AWSCURRENT": "two", "AWSPREVIOUS": "one"})

	put(t, client, "three")
	in.SecretString = aws.String("two")
	_, err = client.PutSecretValue(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	wantLabels(t, client, map[string]string{"AWSCURRENT": "three", "AWSPREVIOUS": "two"})

	in.ClientRequestToken = aws.String("short")
	_, err = client.PutSecretValue(t.Context(), in)
	wantError(t, err, "InvalidParameterException", "32-64")
}

func TestAValueIsNeeded(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	_, err := client.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String(name)})
	wantError(t, err, "InvalidParameterException", "You must provide either SecretString or SecretBinary.")
}

func TestASecretIsCreatedOnce(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	in := &sm.CreateSecretInput{
		Name: aws.String("new"), SecretString: aws.String("value"), ClientRequestToken: aws.String(strings.Repeat("t", 36)),
	}
	first, err := client.CreateSecret(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.CreateSecret(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if *again.ARN != *first.ARN || *again.VersionId != *first.VersionId {
		t.Errorf("the repeat gave %s %s, the first %s %s", *again.ARN, *again.VersionId, *first.ARN, *first.VersionId)
	}
	out, err := get(t, client, "new", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if *out.SecretString != "value" {
		t.Errorf("got %q", *out.SecretString)
	}

	in.ClientRequestToken = nil
	_, err = client.CreateSecret(t.Context(), in)
	wantError(t, err, "ResourceExistsException", "The operation failed because the secret new already exists.")
}

func TestASecretCreatedEmptyHasNoCurrentValueUntilOneIsPut(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	_, err := client.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("empty")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = get(t, client, "empty", "", "")
	wantError(t, err, "ResourceNotFoundException", "can't find the specified secret value for staging label: AWSCURRENT")

	out, err := client.PutSecretValue(t.Context(), &sm.PutSecretValueInput{
		SecretId: aws.String("empty"), SecretString: aws.String("first"), VersionStages: []string{"AWSPENDING"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(out.VersionStages, []string{"AWSCURRENT", "AWSPENDING"}) {
		t.Errorf("the first version has %v", out.VersionStages)
	}
}

func TestADeletedSecretRefusesEverythingButBeingDescribed(t *testing.T) {
	t.Parallel()
	server, client := start(t)
	server.MarkDeleted(name)
	server.MarkDeleted("nobody")
	const marked = "You can't perform this operation on the secret because it was marked for deletion."

	_, err := get(t, client, name, "", "")
	wantError(t, err, "InvalidRequestException", marked)
	_, err = client.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String(name), SecretString: aws.String("x")})
	wantError(t, err, "InvalidRequestException", marked)
	_, err = client.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{
		SecretId: aws.String(name), VersionStage: aws.String("X"),
	})
	wantError(t, err, "InvalidRequestException", marked)
	_, err = client.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String(name), SecretString: aws.String("x")})
	wantError(t, err, "InvalidRequestException", "already scheduled for deletion")
	_, err = client.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(name)})
	if err != nil {
		t.Errorf("describing: %v", err)
	}
}

func TestAnythingElseIsRefusedRatherThanIgnored(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	_, err := client.ListSecrets(t.Context(), &sm.ListSecretsInput{})
	wantError(t, err, "UnknownOperationException", "")
	_, err = client.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String(name), SecretBinary: []byte("x")})
	wantError(t, err, "SerializationException", "SecretBinary")
}
