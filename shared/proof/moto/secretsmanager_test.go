package moto

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"managed-credentials/shared/local/secretsmanager"
)

const (
	apiGet    = "https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"
	apiPut    = "https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html"
	apiCreate = "https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html"
	apiStage  = "https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html"
)

// vault is a Secrets Manager with one secret, whose value is "one".
type vault struct {
	t          *testing.T
	client     *sm.Client
	name, arn  string
	first      string // the id of its version
	markDelete func() error
}

func (v *vault) try(in *sm.GetSecretValueInput) string {
	out, err := v.client.GetSecretValue(v.t.Context(), in)
	if err != nil {
		return answerOf("", err)
	}
	return aws.ToString(out.SecretString)
}

func (v *vault) get(stage string) string {
	in := &sm.GetSecretValueInput{SecretId: &v.name}
	if stage != "" {
		in.VersionStage = &stage
	}
	return v.try(in)
}

// labels is what each staging label stands for.
func (v *vault) labels() string {
	v.t.Helper()
	out, err := v.client.DescribeSecret(v.t.Context(), &sm.DescribeSecretInput{SecretId: &v.name})
	if err != nil {
		v.t.Fatal(err)
	}
	values := map[string]string{}
	for version, stages := range out.VersionIdsToStages {
		for _, stage := range stages {
			values[stage] = v.try(&sm.GetSecretValueInput{SecretId: &v.name, VersionId: &version})
		}
	}
	var all []string
	for _, stage := range slices.Sorted(maps.Keys(values)) {
		all = append(all, stage+"="+values[stage])
	}
	return strings.Join(all, " ")
}

func (v *vault) tryPut(in *sm.PutSecretValueInput) string {
	in.SecretId = &v.name
	out, err := v.client.PutSecretValue(v.t.Context(), in)
	if err != nil {
		return answerOf("", err)
	}
	return strings.Join(slices.Sorted(slices.Values(out.VersionStages)), " ")
}

// put gives the secret a value and returns its version's id.
func (v *vault) put(value string, stages ...string) string {
	v.t.Helper()
	out, err := v.client.PutSecretValue(v.t.Context(), &sm.PutSecretValueInput{SecretId: &v.name, SecretString: &value, VersionStages: stages})
	if err != nil {
		v.t.Fatal(err)
	}
	return *out.VersionId
}

// move moves AWSCURRENT and returns what the labels then stand for.
func (v *vault) move(to, from string) string {
	in := &sm.UpdateSecretVersionStageInput{SecretId: &v.name, VersionStage: aws.String("AWSCURRENT")}
	if to != "" {
		in.MoveToVersionId = &to
	}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	_, err := v.client.UpdateSecretVersionStage(v.t.Context(), in)
	return answerOf(v.labels(), err)
}

func (v *vault) create(in *sm.CreateSecretInput) string {
	out, err := v.client.CreateSecret(v.t.Context(), in)
	if err != nil {
		return answerOf("", err)
	}
	return "made " + *out.Name
}

const (
	notFound         = "ResourceNotFoundException 400"
	notFoundByMoto   = "ResourceNotFoundException 404"
	invalidParameter = "InvalidParameterException 400"
	invalidRequest   = "InvalidRequestException 400"
)

// token is a ClientRequestToken, and so a version's id.
var token = strings.Repeat("t", 32)

var secretCases = []struct {
	name string
	do   func(v *vault) string
	want string
	moto difference
}{
	{
		name: "a secret is found by its name",
		do:   func(v *vault) string { return v.get("") },
		want: "one",
	},
	{
		name: "a secret is found by its ARN",
		do:   func(v *vault) string { return v.try(&sm.GetSecretValueInput{SecretId: &v.arn}) },
		want: "one",
	},
	{
		name: "a secret is found by its ARN without the random end",
		do: func(v *vault) string {
			return v.try(&sm.GetSecretValueInput{SecretId: aws.String(v.arn[:len(v.arn)-7])})
		},
		want: "one",
	},
	{
		name: "an ARN ends with a hyphen and six characters",
		do: func(v *vault) string {
			end, ok := strings.CutPrefix(v.arn, "arn:aws:secretsmanager:"+region+":"+account+":secret:"+v.name+"-")
			return fmt.Sprint(ok, len(end))
		},
		want: "true 6",
	},
	{
		name: "a secret that is missing is not found",
		do:   func(v *vault) string { return v.try(&sm.GetSecretValueInput{SecretId: aws.String("nobodys")}) },
		want: notFound,
		moto: difference{notFoundByMoto, apiGet + "#API_GetSecretValue_Errors"},
	},
	{
		name: "a label that is nowhere is not found",
		do:   func(v *vault) string { return v.get("AWSPENDING") },
		want: notFound,
		moto: difference{notFoundByMoto, apiGet + "#API_GetSecretValue_Errors"},
	},
	{
		name: "a version that is missing is not found",
		do: func(v *vault) string {
			return v.try(&sm.GetSecretValueInput{SecretId: &v.name, VersionId: aws.String(uuid.NewString())})
		},
		want: notFound,
		moto: difference{notFoundByMoto, apiGet + "#API_GetSecretValue_Errors"},
	},
	{
		name: "a version with another's label is refused",
		do: func(v *vault) string {
			v.put("two")
			return v.try(&sm.GetSecretValueInput{SecretId: &v.name, VersionId: &v.first, VersionStage: aws.String("AWSCURRENT")})
		},
		want: invalidRequest,
		moto: difference{"InvalidRequestException 404", apiGet + "#API_GetSecretValue_Errors"},
	},
	{
		name: "a new value is current, and the one before it previous",
		do: func(v *vault) string {
			v.put("two")
			v.put("three")
			return v.labels()
		},
		want: "AWSCURRENT=three AWSPREVIOUS=two",
	},
	{
		name: "a value that is pending is not current",
		do: func(v *vault) string {
			v.put("two", "AWSPENDING")
			return v.get("") + " " + v.labels()
		},
		want: "one AWSCURRENT=one AWSPENDING=two",
	},
	{
		name: "the answer to a new value has its labels",
		do: func(v *vault) string {
			return v.tryPut(&sm.PutSecretValueInput{SecretString: aws.String("two"), VersionStages: []string{"AWSPENDING", "MINE"}})
		},
		want: "AWSPENDING MINE",
	},
	{
		name: "promoting a value makes the current one previous",
		do: func(v *vault) string {
			return v.move(v.put("two", "AWSPENDING"), v.first)
		},
		want: "AWSCURRENT=two AWSPENDING=two AWSPREVIOUS=one",
	},
	{
		name: "a promoted value is the one that is read without a label",
		do: func(v *vault) string {
			v.move(v.put("two", "AWSPENDING"), v.first)
			return v.get("")
		},
		want: "two",
		moto: difference{"one", apiGet + "#SecretsManager-GetSecretValue-request-VersionStage"},
	},
	{
		name: "a promoted value is the one that is read by the label",
		do: func(v *vault) string {
			v.move(v.put("two", "AWSPENDING"), v.first)
			return v.get("AWSCURRENT")
		},
		want: "two",
	},
	{
		name: "going back swaps current and previous",
		do: func(v *vault) string {
			second := v.put("two")
			return v.move(v.first, second)
		},
		want: "AWSCURRENT=one AWSPREVIOUS=two",
	},
	{
		name: "moving a label needs the version that has it",
		do:   func(v *vault) string { return v.move(v.put("two", "AWSPENDING"), "") },
		want: invalidParameter,
	},
	{
		name: "moving a label from a version that does not have it is refused",
		do: func(v *vault) string {
			second := v.put("two", "AWSPENDING")
			return v.move(second, second)
		},
		want: invalidParameter,
	},
	{
		name: "the current label cannot be taken away",
		do:   func(v *vault) string { return v.move("", v.first) },
		want: invalidParameter,
		moto: difference{"AWSPREVIOUS=one", apiStage},
	},
	{
		name: "the same token with the same value changes nothing",
		do: func(v *vault) string {
			in := &sm.PutSecretValueInput{SecretString: aws.String("two"), ClientRequestToken: &token}
			return v.tryPut(in) + ", " + v.tryPut(in) + ", " + v.labels()
		},
		want: "AWSCURRENT, AWSCURRENT, AWSCURRENT=two AWSPREVIOUS=one",
	},
	{
		name: "the same token with another value is refused",
		do: func(v *vault) string {
			v.tryPut(&sm.PutSecretValueInput{SecretString: aws.String("two"), ClientRequestToken: &token})
			return v.tryPut(&sm.PutSecretValueInput{SecretString: aws.String("three"), ClientRequestToken: &token}) + ", " + v.labels()
		},
		want: "ResourceExistsException 400, AWSCURRENT=two AWSPREVIOUS=one",
	},
	{
		name: "a token has 32 characters at least",
		do: func(v *vault) string {
			return v.tryPut(&sm.PutSecretValueInput{SecretString: aws.String("two"), ClientRequestToken: aws.String("short")})
		},
		want: invalidParameter,
	},
	{
		name: "a value for a secret that is missing is refused",
		do: func(v *vault) string {
			v.name = "nobodys"
			return v.tryPut(&sm.PutSecretValueInput{SecretString: aws.String("two")})
		},
		want: notFound,
		moto: difference{notFoundByMoto, apiPut + "#API_PutSecretValue_Errors"},
	},
	{
		name: "a name is taken once",
		do: func(v *vault) string {
			return v.create(&sm.CreateSecretInput{Name: &v.name, SecretString: aws.String("other")})
		},
		want: "ResourceExistsException 400",
	},
	{
		name: "a secret may be made without a value, and then has none to read",
		do: func(v *vault) string {
			v.name += "-empty"
			made := v.create(&sm.CreateSecretInput{Name: &v.name})
			return fmt.Sprint(made == "made "+v.name, " ", v.get(""))
		},
		want: "true " + notFound,
		moto: difference{"true " + notFoundByMoto, apiGet + "#API_GetSecretValue_Errors"},
	},
	{
		name: "the first value of an empty secret is current, whatever its label",
		do: func(v *vault) string {
			v.name += "-empty"
			v.create(&sm.CreateSecretInput{Name: &v.name})
			return v.tryPut(&sm.PutSecretValueInput{SecretString: aws.String("one"), VersionStages: []string{"AWSPENDING"}})
		},
		want: "AWSCURRENT AWSPENDING",
	},
	{
		name: "a secret marked for deletion is not read",
		do: func(v *vault) string {
			v.markForDeletion()
			return v.get("")
		},
		want: invalidRequest,
	},
	{
		name: "a secret marked for deletion takes no value",
		do: func(v *vault) string {
			v.markForDeletion()
			return v.tryPut(&sm.PutSecretValueInput{SecretString: aws.String("two")})
		},
		want: invalidRequest,
		moto: difference{"AWSCURRENT", apiPut + "#API_PutSecretValue_Errors"},
	},
	{
		name: "the name of a secret marked for deletion is not free",
		do: func(v *vault) string {
			v.markForDeletion()
			return v.create(&sm.CreateSecretInput{Name: &v.name, SecretString: aws.String("two")})
		},
		want: invalidRequest,
		moto: difference{"ResourceExistsException 400", apiCreate + "#API_CreateSecret_Errors"},
	},
}

func (v *vault) markForDeletion() {
	v.t.Helper()
	err := v.markDelete()
	if err != nil {
		v.t.Fatal(err)
	}
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

func standInSecrets(t *testing.T) *vault {
	t.Helper()
	server := secretsmanager.New(secretsmanager.Config{Region: region, Account: account})
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	v := newVault(t, web.URL)
	v.markDelete = func() error { server.MarkDeleted(v.name); return nil }
	return v
}

func motoSecrets(t *testing.T, url string) *vault {
	t.Helper()
	v := newVault(t, url)
	v.markDelete = func() error {
		_, err := v.client.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: &v.name})
		return err
	}
	return v
}

func newVault(t *testing.T, url string) *vault {
	t.Helper()
	v := &vault{t: t, name: "managed/" + uuid.NewString() + "/keys", client: sm.New(sm.Options{
		Region:       region,
		BaseEndpoint: &url,
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer:      aws.NopRetryer{},
	})}
	made, err := v.client.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: &v.name, SecretString: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	v.arn, v.first = *made.ARN, *made.VersionId
	return v
}
