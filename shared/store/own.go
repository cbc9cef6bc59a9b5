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

// Create stores a user's own credential, in one transaction with the condition that the user is
// neither deleted nor suspended, and returns it as it is stored. m.ID has to be a fresh one. It
// returns ErrAccountDeleted or ErrAccountSuspended. Not to be repeated after an unknown outcome:
// that would store it twice, under two ids.
func (s *Store) Create(ctx context.Context, user string, m credential.Metadata, ciphertext []byte) (credential.Metadata, error) {
	return s.CreateOnce(ctx, user, m, "", ciphertext)
}

// CreateOnce is Create for a request that may come again: request stands for all of it, and m.ID is
// the same each time. A repeat, at the same time or later, changes nothing and gets the credential
// as it is; another request under the id gets ErrRepeated. Safe to repeat.
func (s *Store) CreateOnce(ctx context.Context, user string, m credential.Metadata, request string, ciphertext []byte) (credential.Metadata, error) {
	key := CredentialKey(user, m.Provider, m.ID)
	item := key.item()
	item[attrVersion] = number(version)
	item[attrType] = &types.AttributeValueMemberS{Value: string(m.Type)}
	item[attrManaged] = &types.AttributeValueMemberBOOL{Value: false}
	item[attrSecret] = &types.AttributeValueMemberB{Value: ciphertext}
	item[attrCreatedAt] = number(s.now().UnixMilli())
	item[attrRevision] = &types.AttributeValueMemberS{Value: uuid.NewString()}
	maps.Copy(item, beside(m))
	brings := types.ReturnValuesOnConditionCheckFailureNone
	if request != "" {
		item[attrRequest] = &types.AttributeValueMemberS{Value: request}
		brings = types.ReturnValuesOnConditionCheckFailureAllOld
	}
	for name, value := range shown(m.Title, credential.Open{Username: m.Username, Scopes: m.Scopes, Host: m.Host}) {
		item[name] = &types.AttributeValueMemberS{Value: value}
	}
	free := "attribute_not_exists(#pk)"
	err := repeat(ctx, func() error {
		_, err := s.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
			s.noAccountItem(user),
			{Put: &types.Put{
				TableName: &s.table, Item: item, ConditionExpression: &free, ExpressionAttributeNames: names(free),
				ReturnValuesOnConditionCheckFailure: brings,
			}},
		}})
		return err
	})
	refused := refusedAccount(err)
	if refused != nil {
		return credential.Metadata{}, refused
	}
	reasons := cancellation(err)
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
	if r.textOrEmpty(attrRequest) != request {
		return credential.Metadata{}, credential.ErrRepeated
	}
	return decodeOwn(item)
}

// beside is what an item holds in the clear of its secret, attribute by attribute, without what
// there is none of.
func beside(m credential.Metadata) map[string]types.AttributeValue {
	all := map[string]types.AttributeValue{}
	if m.ExpiresAt != nil {
		all[attrExpiresAt] = number(time.Unix(*m.ExpiresAt, 0).UnixMilli())
	}
	if m.Hint != nil {
		all[attrHint] = &types.AttributeValueMemberS{Value: *m.Hint}
	}
	if len(m.Stored) > 0 {
		all[attrStored] = &types.AttributeValueMemberSS{Value: m.Stored}
	}
	return all
}

// shown is what a credential's item holds in the clear, attribute by attribute.
func shown(title *string, open credential.Open) map[string]string {
	all := map[string]string{}
	if title != nil {
		all[attrTitle] = *title
	}
	if open.Username != nil {
		all[attrUsername] = *open.Username
	}
	if open.Scopes != nil {
		all[attrScopes] = strings.Join(open.Scopes, " ")
	}
	if open.Host != nil {
		all[attrHost] = *open.Host
	}
	return all
}

// CheckRoom returns a *credential.LimitError if the user has most credentials of their own, or
// more; ErrAccountDeleted or ErrAccountSuspended instead if they are that. It is eventually
// consistent, so that a user who creates several at once may end a few above the limit: what it
// guards is the table's size, and a counter would make a transaction of each deletion.
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
		_, err = s.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{s.noAccountItem(user)}})
		refused := refusedAccount(err)
		if refused != nil {
			return refused
		}
		return &credential.LimitError{Most: most} // whatever else became of the check: nothing is created
	}
	return nil
}

// Update changes a user's own credential in one transaction, with the condition that the user is
// neither deleted nor suspended, and returns how it then is. Where somebody else has changed it
// since, the revision is still that of this change, so that what goes by it is refused. A nil
// ciphertext keeps the secret and what goes with it.
//
// It returns ErrAccountDeleted, ErrAccountSuspended, ErrNotFound, ErrManaged, a
// *TypeError if the credential is of another type than the change, a *FieldError if it has
// something that the change leaves out, or ErrChanged if it is none of the revisions that the
// change is meant for. Safe to repeat.
func (s *Store) Update(ctx context.Context, user, provider, id string, change credential.Change, ciphertext []byte) (credential.Metadata, error) {
	return s.change(ctx, CredentialKey(user, provider, id), ownChange{Change: change, ciphertext: ciphertext})
}

// ownChange is a change of a user's own credential, as it is sent.
type ownChange struct {
	credential.Change
	// ciphertext is the new secret; nil keeps the one that is there.
	ciphertext []byte
	// seen is the revision from which the change is known to lose nothing; "" if none is known.
	seen string
}

// change makes a change. Where no revision was seen, the condition asks for an item with the same
// fields and headers as the change, which is the usual one; any other comes along with the refusal,
// is looked through, and is what the next write is for. Each further round is due to somebody
// else's write in between.
func (s *Store) change(ctx context.Context, key Key, c ownChange) (credential.Metadata, error) {
	values := args{}
	revision := uuid.NewString()
	condition := c.condition(values)
	expression := c.expression(values, revision)
	if c.ciphertext != nil && c.seen == "" {
		condition += sameFields(c.Change, values)
	}
	err := s.whileServed(ctx, key.User(), types.TransactWriteItem{Update: &types.Update{
		TableName:                           &s.table,
		Key:                                 key.item(),
		UpdateExpression:                    &expression,
		ConditionExpression:                 &condition,
		ExpressionAttributeNames:            names(expression, condition),
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}})
	if err == nil {
		return s.changed(ctx, key, revision)
	}
	if !isRefused(err) {
		return credential.Metadata{}, fmt.Errorf("updating the credential: %w", err)
	}
	r := reader{item: refusedItem(err)}
	why := refusal(err, c.Type, c.Match)
	m, err := decodeOwn(r.item)
	if err != nil || !errors.Is(why, credential.ErrNotFound) || c.ciphertext == nil || m.Revision == c.seen {
		return credential.Metadata{}, why
	}
	err = c.CheckLoss(m)
	if err != nil {
		return credential.Metadata{}, err
	}
	c.seen = m.Revision
	return s.change(ctx, key, c)
}

// ownProjection is what decodeOwn reads.
const ownProjection = "#pk, #sk, #v, #type, #title, #autogpt_managed, #scopes, #username, #host, #created_at, #expires_at, " +
	"#hint, #stored, #revision, #last_used_on"

// changed is the credential after the change with that revision: a transaction gives nothing back.
func (s *Store) changed(ctx context.Context, key Key, revision string) (credential.Metadata, error) {
	items, err := s.read(ctx, ownProjection, key)
	if err != nil {
		return credential.Metadata{}, fmt.Errorf("reading the changed credential: %w", err)
	}
	if items[key] == nil {
		return credential.Metadata{}, credential.ErrNotFound
	}
	m, err := decodeOwn(items[key])
	m.Revision = revision
	return m, err
}

// condition is that the item is one that the change is meant for.
func (c ownChange) condition(values args) string {
	match := c.Match
	if c.seen != "" {
		match = []string{c.seen}
	}
	condition := ownCondition(values) + matching(values, match)
	if c.Type != "" {
		condition += " AND #type = " + values.str("type", string(c.Type))
	}
	return condition
}

// expression is what the change writes. A new secret takes all that stands beside the old one with
// it.
func (c ownChange) expression(values args, revision string) string {
	set, remove := []string{"#revision = " + values.str("new_revision", revision)}, []string(nil)
	put := map[string]types.AttributeValue{}
	for name, text := range shown(c.Title, c.Open) {
		put[name] = &types.AttributeValueMemberS{Value: text}
	}
	if c.ciphertext != nil {
		put[attrSecret] = &types.AttributeValueMemberB{Value: c.ciphertext}
		var m credential.Material
		if c.Material != nil {
			m = *c.Material
		}
		maps.Copy(put, beside(credential.Metadata{ExpiresAt: m.ExpiresAt(), Hint: m.Hint(), Stored: m.Stored()}))
		for _, name := range []string{attrUsername, attrScopes, attrHost, attrExpiresAt, attrHint, attrStored} {
			if put[name] == nil {
				remove = append(remove, "#"+name)
			}
		}
	}
	for name, value := range put {
		values[":new_"+name] = value
		set = append(set, "#"+name+" = :new_"+name)
	}
	expression := "SET " + strings.Join(set, ", ")
	if len(remove) > 0 {
		expression += " REMOVE " + strings.Join(remove, ", ")
	}
	return expression
}

// Delete removes a user's own credential in one transaction, with the condition that the user is
// neither deleted nor suspended, if it is of one of the revisions or none is given. It returns
// ErrAccountDeleted, ErrAccountSuspended, ErrNotFound, ErrManaged or ErrChanged. Safe to repeat;
// the repeat gets ErrNotFound.
func (s *Store) Delete(ctx context.Context, user, provider, id string, match ...string) error {
	values := args{}
	condition := ownCondition(values) + matching(values, match)
	err := s.whileServed(ctx, user, types.TransactWriteItem{Delete: &types.Delete{
		TableName:                           &s.table,
		Key:                                 CredentialKey(user, provider, id).item(),
		ConditionExpression:                 &condition,
		ExpressionAttributeNames:            names(condition),
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}})
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
	if (Slot{State: State(r.textOrEmpty(attrState))}).Dead() {
		return credential.ErrNotFound
	}
	if r.flag(attrManaged) {
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
		Type:     credential.Type(r.text(attrType)),
		Title:    r.textOrNil(attrTitle),
		Username: r.textOrNil(attrUsername),
		Host:     r.textOrNil(attrHost),

		CreatedAt: seconds(shownTime(item, attrCreatedAt)),
		ExpiresAt: seconds(shownTime(item, attrExpiresAt)),
		Stored:    shownTexts(item, attrStored),
		Revision:  cmp.Or(shownText(item, attrRevision), firstRevision),
	}
	if hint := shownText(item, attrHint); hint != "" {
		m.Hint = &hint
	}
	if day := shownDay(item, attrLastUsed); day != "" {
		m.LastUsedOn = &day
	}
	scopes := r.textOrNil(attrScopes)
	if scopes != nil {
		m.Scopes = strings.Fields(*scopes)
	}
	if r.number(attrVersion) != version || r.flag(attrManaged) || !m.Type.Valid() || r.bad {
		return credential.Metadata{}, ErrUndecodable
	}
	return m, nil
}
