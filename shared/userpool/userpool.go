// Package userpool is the Cognito user pool as far as the deletion of an account, and its
// suspension, need it.
package userpool

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
)

// Pool is one user pool. It is safe for concurrent use.
type Pool struct {
	api API
	id  string
}

// New returns the user pool with the given id.
func New(api API, id string) *Pool { return &Pool{api: api, id: id} }

// Remove removes the user with the given name, if their sub is the given one. One who has gone
// already is no error. The sub is compared, because Cognito takes a sub for a name, too: once a
// user has gone who was named after somebody else's sub, their name finds that other user. Safe to
// repeat.
func (p *Pool) Remove(ctx context.Context, username, sub string) error {
	found, err := p.get(ctx, username)
	if err != nil {
		return err
	}
	if found.sub != sub {
		return nil
	}
	_, err = p.api.AdminDeleteUser(ctx, &cognitoidentityprovider.AdminDeleteUserInput{UserPoolId: &p.id, Username: &username})
	if err != nil && !isUnknown(err) {
		return fmt.Errorf("removing the Cognito user: %w", err)
	}
	return nil
}

// Exists reports whether there is a user with the given name or sub.
func (p *Pool) Exists(ctx context.Context, username string) (bool, error) {
	sub, err := p.Sub(ctx, username)
	return sub != "", err
}

// Sub returns the sub of the user with the given name or sub; "" if there is none.
func (p *Pool) Sub(ctx context.Context, username string) (string, error) {
	found, err := p.get(ctx, username)
	return found.sub, err
}

// Enabled reports whether there is a user with the given sub now, and whether they are enabled.
// AdminGetUser alone would not do: it takes a sub only for users of the pool's own, and one who is
// named after somebody else's sub comes in between. So where it does not find the user the name is
// looked up, which never changes; ListUsers may lag behind only for a user who has just been made.
func (p *Pool) Enabled(ctx context.Context, sub string) (enabled, exists bool, err error) {
	user, err := p.get(ctx, sub)
	if err == nil && user.sub != sub {
		user, err = p.getBySub(ctx, sub)
	}
	return user.enabled, user.sub == sub, err
}

func (p *Pool) getBySub(ctx context.Context, sub string) (user, error) {
	listed, err := p.list(ctx, sub)
	if err != nil || len(listed) == 0 {
		return user{}, err
	}
	return p.get(ctx, aws.ToString(listed[0].Username))
}

// Has reports whether there is a user with the given sub. AdminGetUser would not do: it takes a sub
// only for users of the pool's own, and not for those who come from another identity provider. What
// ListUsers says may lag behind.
func (p *Pool) Has(ctx context.Context, sub string) (bool, error) {
	listed, err := p.list(ctx, sub)
	return len(listed) > 0, err
}

// list is the users with the given sub: one or none.
func (p *Pool) list(ctx context.Context, sub string) ([]types.UserType, error) {
	out, err := p.api.ListUsers(ctx, &cognitoidentityprovider.ListUsersInput{
		UserPoolId:      &p.id,
		Filter:          aws.String("sub = " + strconv.Quote(sub)),
		AttributesToGet: []string{"sub"},
		Limit:           aws.Int32(1),
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the user with that sub: %w", err)
	}
	return out.Users, nil
}

// user is what is asked of one; their sub is "" if there is none.
type user struct {
	sub     string
	enabled bool
}

// get looks for the user with the given name.
func (p *Pool) get(ctx context.Context, username string) (user, error) {
	out, err := p.api.AdminGetUser(ctx, &cognitoidentityprovider.AdminGetUserInput{UserPoolId: &p.id, Username: &username})
	if isUnknown(err) {
		return user{}, nil
	}
	if err != nil {
		return user{}, fmt.Errorf("looking for the Cognito user: %w", err)
	}
	for _, attribute := range out.UserAttributes {
		if aws.ToString(attribute.Name) == "sub" {
			return user{aws.ToString(attribute.Value), out.Enabled}, nil
		}
	}
	return user{}, errNoSub
}

// errNoSub: Cognito gives every user a sub.
var errNoSub = errors.New("the Cognito user has no sub")

func isUnknown(err error) bool {
	var unknown *types.UserNotFoundException
	return errors.As(err, &unknown)
}

// API is what is needed of Cognito.
type API interface {
	AdminDeleteUser(context.Context, *cognitoidentityprovider.AdminDeleteUserInput, ...func(*cognitoidentityprovider.Options)) (*cognitoidentityprovider.AdminDeleteUserOutput, error)
	ListUsers(context.Context, *cognitoidentityprovider.ListUsersInput, ...func(*cognitoidentityprovider.Options)) (*cognitoidentityprovider.ListUsersOutput, error)
	AdminGetUser(context.Context, *cognitoidentityprovider.AdminGetUserInput, ...func(*cognitoidentityprovider.Options)) (*cognitoidentityprovider.AdminGetUserOutput, error)
}
