package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"managed-credentials/shared/credential"
)

// Create stores a user's own credential, in one transaction with the condition that the account is
// not deleted, and returns it as it is stored. m.ID has to be a fresh one. It returns
// ErrAccountDeleted. Not to be repeated after an unknown outcome: that would store it twice, under
// two ids.
func (s *Store) Create(ctx context.Context, user string, m credential.Metadata, ciphertext []byte) (credential.Metadata, error) {
	return s.CreateOnce(ctx, user, m, "", ciphertext)
}

// CreateOnce is Create for a request that may come again: request stands for all of it, and m.ID is
// the same each time. A repeat, at the same time or later, changes nothing and gets the credential
// as it is; another request under the id gets ErrRepeated. Safe to repeat.
func (s *Store) CreateOnce(ctx context.Context, user string, m credential.Metadata, request string, ciphertext []byte) (credential.Metadata, error) {
	key := CredentialKey(user, m.Provider, m.ID)
	item := key.item()
	item["v"] = number(version)
	item["type"] = &types.AttributeValueMemberS{Value: string(m.Type)}
	item["autogpt_managed"] = &types.AttributeValueMemberBOOL{Value: false}
	item["secret"] = &types.AttributeValueMemberB{Value: ciphertext}
	item["created_at"] = number(s.now().UnixMilli())
	item["revision"] = &types.AttributeValueMemberS{Value: uuid.NewString()}
	maps.Copy(item, beside(m))
	brings := types.ReturnValuesOnConditionCheckFailureNone
	if request != "" {
		item["request"] = &types.AttributeValueMemberS{Value: request}
		brings = types.ReturnValuesOnConditionCheckFailureAllOld
	}
	for name, value := range shown(m.Title, credential.Open{Username: m.Username, Scopes: m.Scopes, Host: m.Host}) {
		item[name] = &types.AttributeValueMemberS{Value: value}
	}
	free := "attribute_not_exists(#pk)"
	err := repeat(ctx, func() error {
		_, err := s.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
			s.notDeleted(user),
			{Put: &types.Put{
				TableName: &s.table, Item: item, ConditionExpression: &free, ExpressionAttributeNames: names(free),
				ReturnValuesOnConditionCheckFailure: brings,
			}},
		}})
		return err
	})
	reasons := cancellation(err)
	if len(reasons) > 0 && reasons[0] == conditionalCheckFailed {
		return credential.Metadata{}, credential.ErrAccountDeleted
	}
	if request != "" && len(reasons) > 1 && reasons[1] == conditionalCheckFailed {
		return made(err, request)
	}
	if err != nil {
		return credential.Metadata{}, fmt.Errorf("creating the credential: %w", err)
	}
	return decodeOwn(item)
}

// made is the credential that an earlier request made, as the refusal of its repeat brought it
// along.
func made(err error, request string) (credential.Metadata, error) {
	var cancelled *types.TransactionCanceledException
	if !errors.As(err, &cancelled) {
		return credential.Metadata{}, err
	}
	item := cancelled.CancellationReasons[1].Item
	r := reader{item: item}
	if r.text("request") != request {
		return credential.Metadata{}, credential.ErrRepeated
	}
	return decodeOwn(item)
}

// beside is what an item holds in the clear of its secret, attribute by attribute, without what
// there is none of.
func beside(m credential.Metadata) map[string]types.AttributeValue {
	all := map[string]types.AttributeValue{}
	if m.ExpiresAt != nil {
		all["expires_at"] = number(time.Unix(*m.ExpiresAt, 0).UnixMilli())
	}
	if m.Hint != nil {
		all["hint"] = &types.AttributeValueMemberS{Value: *m.Hint}
	}
	if len(m.Stored) > 0 {
		all["stored"] = &types.AttributeValueMemberSS{Value: m.Stored}
	}
	return all
}

// shown is what a credential's item holds in the clear, attribute by attribute.
func shown(title *string, open credential.Open) map[string]string {
	all := map[string]string{}
	if title != nil {
		all["title"] = *title
	}
	if open.Username != nil {
		all["username"] = *open.Username
	}
	if open.Scopes != nil {
		all["scopes"] = strings.Join(open.Scopes, " ")
	}
	if open.Host != nil {
		all["host"] = *open.Host
	}
	return all
}

// CheckRoom returns a *credential.LimitError if the user has most credentials of their own, or
// more; ErrAccountDeleted instead if the account is deleted. It is eventually consistent, so that a
// user who creates several at once may end a few above the limit: what it guards is the table's
// size, and a counter would make a transaction of each deletion.
//
// What the same request has made before, by CreateOnce, does not count: its repeat makes no other.
func (s *Store) CheckRoom(ctx context.Context, user string, most int, request string) error {
	values := args{}
	condition := "#pk = " + values.str("pk", userPrefix+user) + " AND begins_with(#sk, " + values.str("sk", credentialPrefix) + ")"
	filter := "#autogpt_managed = " + values.flag("own", false)
	if request != "" {
		filter += " AND (attribute_not_exists(#request) OR #request <> " + values.str("request", request) + ")"
	}
	pages := dynamodb.NewQueryPaginator(s.db, &dynamodb.QueryInput{
		TableName:                 &s.table,
		KeyConditionExpression:    &condition,
		FilterExpression:          &filter,
		Select:                    types.SelectCount,
		ExpressionAttributeNames:  names(condition, filter),
		ExpressionAttributeValues: values,
	})
	for count := 0; pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("counting the credentials: %w", err)
		}
		count += int(page.Count)
		if count < most {
			continue
		}
		_, err = s.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{s.notDeleted(user)}})
		if slices.Contains(cancellation(err), conditionalCheckFailed) {
			return credential.ErrAccountDeleted
		}
		return &credential.LimitError{Most: most} // whatever else became of the check: nothing is created
	}
	return nil
}

// Update changes a user's own credential in one conditional write and returns how it then is. A nil
// ciphertext keeps the secret and what goes with it. It returns ErrNotFound, ErrManaged, a
// *TypeError if the credential is of another type than the change, a *FieldError if it has
// something that the change leaves out, or ErrChanged if it is none of the revisions that the
// change is meant for. Safe to repeat.
func (s *Store) Update(ctx context.Context, user, provider, id string, change credential.Change, ciphertext []byte) (credential.Metadata, error) {
	return s.updateSeen(ctx, user, provider, id, change, ciphertext, "")
}

// updateSeen is Update of what is known to lose nothing from the revision seen, if that is given.
// Otherwise the condition asks for an item with the same fields and headers as the change, which is
// the usual one; any other comes along with the refusal, is looked through, and is what the next
// write is for. Each further round is due to somebody else's write in between.
func (s *Store) updateSeen(
	ctx context.Context, user, provider, id string, change credential.Change, ciphertext []byte, seen string,
) (credential.Metadata, error) {
	values := args{}
	condition := ownCondition(values)
	match := change.Match
	if seen != "" {
		match = []string{seen}
	}
	condition += matching(values, match)
	if change.Type != "" {
		condition += " AND #type = " + values.str("type", string(change.Type))
	}
	revision := uuid.NewString()
	set, remove := []string{"#revision = " + values.str("new_revision", revision)}, []string(nil)
	put := shown(change.Title, change.Open)
	if ciphertext != nil {
		values[":secret"] = &types.AttributeValueMemberB{Value: ciphertext}
		set = append(set, "#secret = :secret")
		for _, name := range []string{"username", "scopes", "host"} {
			_, ok := put[name]
			if !ok {
				remove = append(remove, "#"+name)
			}
		}
		var m credential.Material
		if change.Material != nil {
			m = *change.Material
		}
		put := beside(credential.Metadata{ExpiresAt: m.ExpiresAt(), Hint: m.Hint(), Stored: m.Stored()})
		for _, name := range []string{"expires_at", "hint", "stored"} {
			value, ok := put[name]
			if !ok {
				remove = append(remove, "#"+name)
				continue
			}
			values[":new_"+name] = value
			set = append(set, "#"+name+" = :new_"+name)
		}
		if seen == "" {
			condition += sameFields(change, values)
		}
	}
	for name, value := range put {
		set = append(set, "#"+name+" = "+values.str("new_"+name, value))
	}
	expression := "SET " + strings.Join(set, ", ")
	if len(remove) > 0 {
		expression += " REMOVE " + strings.Join(remove, ", ")
	}
	var out *dynamodb.UpdateItemOutput
	err := repeat(ctx, func() error {
		var err error
		out, err = s.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName:                           &s.table,
			Key:                                 CredentialKey(user, provider, id).item(),
			UpdateExpression:                    &expression,
			ConditionExpression:                 &condition,
			ExpressionAttributeNames:            names(expression, condition),
			ExpressionAttributeValues:           values,
			ReturnValues:                        types.ReturnValueAllNew,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
		return err
	})
	if isRefused(err) {
		r := reader{item: refusedItem(err)}
		if r.text("revision") == revision { // the SDK repeated a write whose answer was lost
			return decodeOwn(r.item)
		}
		why := refusal(err, change.Type, change.Match)
		m, err := decodeOwn(r.item)
		if err != nil || !errors.Is(why, credential.ErrNotFound) || ciphertext == nil || m.Revision == seen {
			return credential.Metadata{}, why
		}
		err = change.CheckLoss(m)
		if err != nil {
			return credential.Metadata{}, err
		}
		return s.updateSeen(ctx, user, provider, id, change, ciphertext, m.Revision)
	}
	if err != nil {
		return credential.Metadata{}, fmt.Errorf("updating the credential: %w", err)
	}
	return decodeOwn(out.Attributes)
}

// Delete removes a user's own credential in one conditional write, if it is of one of the revisions
// or none is given. It returns ErrNotFound, ErrManaged or ErrChanged.
// Safe to repeat; the repeat gets ErrNotFound.
func (s *Store) Delete(ctx context.Context, user, provider, id string, match ...string) error {
	values := args{}
	condition := ownCondition(values) + matching(values, match)
	err := repeat(ctx, func() error {
		_, err := s.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName:                           &s.table,
			Key:                                 CredentialKey(user, provider, id).item(),
			ConditionExpression:                 &condition,
			ExpressionAttributeNames:            names(condition),
			ExpressionAttributeValues:           values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
		return err
	})
	if isRefused(err) {
		return refusal(err, "", match)
	}
	if err != nil {
		return fmt.Errorf("deleting the credential: %w", err)
	}
	return nil
}

// refusal says why a guard refused, by the item that the refusal brought along.
func refusal(err error, want credential.Type, match []string) error {
	item := refusedItem(err)
	if item == nil {
		return credential.ErrNotFound
	}
	r := reader{item: item}
	if (Slot{State: State(r.text("state"))}).Dead() {
		return credential.ErrNotFound
	}
	if r.flag("autogpt_managed") {
		return credential.ErrManaged
	}
	m, err := decodeOwn(item)
	if err == nil && want != "" && m.Type != want {
		return &credential.TypeError{Stored: m.Type, Change: want}
	}
	if err == nil && match != nil && !slices.Contains(match, m.Revision) {
		return credential.ErrChanged
	}
	return credential.ErrNotFound
}

// decodeOwn reads a user's own credential, strictly, as metadata.
func decodeOwn(item map[string]types.AttributeValue) (credential.Metadata, error) {
	key := keyOf(item)
	r := reader{item: item}
	_, id, _ := strings.Cut(strings.TrimPrefix(key.SK, credentialPrefix), "#")
	m := credential.Metadata{
		ID:       id,
		Provider: key.Provider(),
		Type:     credential.Type(r.str("type")),
		Title:    r.optional("title"),
		Username: r.optional("username"),
		Host:     r.optional("host"),

		CreatedAt: seconds(shownTime(item, "created_at")),
		ExpiresAt: seconds(shownTime(item, "expires_at")),
		Stored:    shownTexts(item, "stored"),
		Revision:  cmp.Or(shownText(item, "revision"), firstRevision),
	}
	if hint := shownText(item, "hint"); hint != "" {
		m.Hint = &hint
	}
	scopes := r.optional("scopes")
	if scopes != nil {
		m.Scopes = strings.Fields(*scopes)
	}
	if r.num("v") != version || r.flag("autogpt_managed") || !m.Type.Valid() || r.bad {
		return credential.Metadata{}, ErrUndecodable
	}
	return m, nil
}
