// Package userpool is the Cognito user pool as far as the deletion of an account needs it.
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
	found, err := p.sub(ctx, username)
	if err != nil {
		return err
	}
	if found != sub {
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
	sub, err := p.sub(ctx, username)
	return sub != "", err
}

// Has reports whether there is a user with the given sub. AdminGetUser would not do: it takes a sub
// only for users of the pool's own, and not for those who come from another identity provider. What
// ListUsers says may lag behind.
func (p *Pool) Has(ctx context.Context, sub string) (bool, error) {
	out, err := p.api.ListUsers(ctx, &cognitoidentityprovider.ListUsersInput{
		UserPoolId:      &p.id,
		Filter:          aws.String("sub = " + strconv.Quote(sub)),
		AttributesToGet: []string{"sub"},
		Limit:           aws.Int32(1),
	})
	if err != nil {
		return false, fmt.Errorf("looking for the user with that sub: %w", err)
	}
	return len(out.Users) > 0, nil
}

// sub is the sub of the user with the given name; "" if there is none.
func (p *Pool) sub(ctx context.Context, username string) (string, error) {
	out, err := p.api.AdminGetUser(ctx, &cognitoidentityprovider.AdminGetUserInput{UserPoolId: &p.id, Username: &username})
	if isUnknown(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for the Cognito user: %w", err)
	}
	for _, attribute := range out.UserAttributes {
		if aws.ToString(attribute.Name) == "sub" {
			return aws.ToString(attribute.Value), nil
		}
	}
	return "", errNoSub
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
