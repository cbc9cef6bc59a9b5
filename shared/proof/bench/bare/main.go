// Program bare is what list-with-provision is measured against: a function that lists a user's
// credentials and makes a missing key at AgentMail, by hand and for the good case alone. It makes
// the same calls in the same order, and keeps none of the promises.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/proof/bench/byhand"
)

type function struct {
	db    *dynamodb.Client
	table string
	maker byhand.Maker
}

func main() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		panic(err)
	}
	f := function{
		db: dynamodb.NewFromConfig(cfg), table: os.Getenv("TABLE_NAME"),
		maker: byhand.Maker{
			KMS: kms.NewFromConfig(cfg), KeyID: os.Getenv("KMS_KEY_ID"),
			URL: os.Getenv("AGENTMAIL_BASE_URL"), OrgKey: os.Getenv("ORG_KEY"), HTTP: http.DefaultClient,
		},
	}
	lambda.Start(f.list)
}

type event struct {
	RequestContext struct {
		Authorizer struct {
			JWT struct {
				Claims struct {
					Sub string `json:"sub"`
				} `json:"claims"`
			} `json:"jwt"`
		} `json:"authorizer"`
	} `json:"requestContext"`
}

type response struct {
	StatusCode int               `json:"statusCode"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body"`
}

// shown is a credential as the API shows it.
type shown struct {
	ID         string   `json:"id"`
	Provider   string   `json:"provider"`
	Type       string   `json:"type"`
	Title      *string  `json:"title"`
	Scopes     []string `json:"scopes"`
	Username   *string  `json:"username"`
	Host       *string  `json:"host"`
	Managed    bool     `json:"autogpt_managed"`
	System     bool     `json:"is_system"`
	CreatedAt  *int64   `json:"created_at"`
	ExpiresAt  *int64   `json:"expires_at"`
	Hint       *string  `json:"hint"`
	Stored     []string `json:"stored"`
	LastUsedOn *string  `json:"last_used_on"`
	IsManaged  bool     `json:"is_managed"`
}

// projection is what list-with-provision reads, so that the table has the same to do: every
// attribute but the ciphertext.
const projection = "#pk, #sk, #v, #type, #title, #autogpt_managed, #scopes, #username, #host, " +
	"#state, #owner, #attempt, #tries, #lease_until, #due_at, #committed, #resource_id, #key_id, #org_id, #reason, " +
	"#gone_since, #left, #left_since, #held_until, #expires_at, #report_from, #report_pause, #created_at, #committed_at, #hint, #stored, #revision, " +
	"#rotate, #retiring_key_id, #retiring_attempt, #retire_at, #retracted_by, #ask_from, #ask_pause, #status, #last_used_on"

// names are those of the projection's attributes.
var names = func() map[string]string {
	all := map[string]string{}
	for _, name := range strings.Split(projection, ", ") {
		all[name] = name[1:]
	}
	return all
}()

func (f function) list(ctx context.Context, e event) (response, error) {
	user := e.RequestContext.Authorizer.JWT.Claims.Sub
	all := []shown{}
	made := false
	pages := dynamodb.NewQueryPaginator(f.db, &dynamodb.QueryInput{
		TableName: &f.table, ConsistentRead: aws.Bool(true), KeyConditionExpression: aws.String("#pk = :pk"),
		ProjectionExpression: aws.String(projection), ExpressionAttributeNames: names,
		ExpressionAttributeValues: map[string]types.AttributeValue{":pk": text("USER#" + user)},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return response{}, err
		}
		for _, item := range page.Items {
			s := decode(item)
			made = made || s.Managed
			all = append(all, s)
		}
	}
	if !made {
		s, err := f.provision(ctx, user)
		if err != nil {
			return response{}, err
		}
		all = append(all, s)
	}
	body, err := json.Marshal(all)
	if err != nil {
		return response{}, err
	}
	return response{http.StatusOK, map[string]string{"cache-control": "no-store", "content-type": "application/json"}, string(body)}, nil
}

func decode(item map[string]types.AttributeValue) shown {
	parts := strings.SplitN(item["sk"].(*types.AttributeValueMemberS).Value, "#", 3)
	s := shown{
		Provider: parts[1], ID: parts[2], Type: *textOf(item["type"]), Title: textOf(item["title"]), Username: textOf(item["username"]),
		Host: textOf(item["host"]), Hint: textOf(item["hint"]), LastUsedOn: textOf(item["last_used_on"]),
		CreatedAt: seconds(item["created_at"]), ExpiresAt: seconds(item["expires_at"]),
	}
	scopes := textOf(item["scopes"])
	if scopes != nil {
		s.Scopes = strings.Fields(*scopes)
	}
	stored, _ := item["stored"].(*types.AttributeValueMemberSS)
	if stored != nil {
		s.Stored = stored.Value
	}
	managed, _ := item["autogpt_managed"].(*types.AttributeValueMemberBOOL)
	s.Managed = managed != nil && managed.Value
	s.IsManaged = s.Managed
	return s
}

func textOf(v types.AttributeValue) *string {
	s, ok := v.(*types.AttributeValueMemberS)
	if !ok {
		return nil
	}
	return &s.Value
}

func seconds(v types.AttributeValue) *int64 {
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		return nil
	}
	ms, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil {
		return nil
	}
	s := ms / 1000
	return &s
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// provision makes a pod and a key, with a claim before and a commit after.
func (f function) provision(ctx context.Context, user string) (shown, error) {
	id := credential.ManagedID(byhand.Provider, user)
	now := time.Now()
	item := map[string]types.AttributeValue{
		"pk": text("USER#" + user), "sk": text("CRED#" + byhand.Provider + "#" + id), "type": text("api_key"), "title": text("bare"),
		"autogpt_managed": &types.AttributeValueMemberBOOL{Value: true}, "state": text("provisioning"),
		"created_at": &types.AttributeValueMemberN{Value: strconv.FormatInt(now.UnixMilli(), 10)},
	}
	_, err := f.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
		{ConditionCheck: &types.ConditionCheck{
			TableName: &f.table, ConditionExpression: aws.String("attribute_not_exists(pk)"),
			Key: map[string]types.AttributeValue{"pk": text("USER#" + user), "sk": text("ACCOUNT")},
		}},
		{Put: &types.Put{TableName: &f.table, Item: item, ConditionExpression: aws.String("attribute_not_exists(pk)")}},
	}})
	if err != nil {
		return shown{}, err
	}
	made, err := f.maker.Make(ctx, user)
	if err != nil {
		return shown{}, err
	}
	_, err = f.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &f.table, Key: map[string]types.AttributeValue{"pk": item["pk"], "sk": item["sk"]},
		UpdateExpression: aws.String("SET #state = :ready, secret = :secret"), ConditionExpression: aws.String("#state = :was"),
		ExpressionAttributeNames: map[string]string{"#state": "state"},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":ready": text("ready"), ":was": text("provisioning"), ":secret": &types.AttributeValueMemberB{Value: made.Sealed},
		},
	})
	if err != nil {
		return shown{}, err
	}
	return decode(item), nil
}
