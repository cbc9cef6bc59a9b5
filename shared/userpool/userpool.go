// Package userpool is the Cognito user pool as far as the deletion of an account needs it.
package userpool

import (
	"context"
	"errors"
	"fmt"

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

// Remove removes the user with the given name. One who has gone already is no error. Safe to repeat.
func (p *Pool) Remove(ctx context.Context, username string) error {
	_, err := p.api.AdminDeleteUser(ctx, &cognitoidentityprovider.AdminDeleteUserInput{UserPoolId: &p.id, Username: &username})
	if err != nil && !isUnknown(err) {
		return fmt.Errorf("removing the Cognito user: %w", err)
	}
	return nil
}

// Exists reports whether there is a user with the given name.
func (p *Pool) Exists(ctx context.Context, username string) (bool, error) {
	_, err := p.api.AdminGetUser(ctx, &cognitoidentityprovider.AdminGetUserInput{UserPoolId: &p.id, Username: &username})
	if isUnknown(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for the Cognito user: %w", err)
	}
	return true, nil
}

func isUnknown(err error) bool {
	var unknown *types.UserNotFoundException
	return errors.As(err, &unknown)
}

// API is what is needed of Cognito.
type API interface {
	AdminDeleteUser(context.Context, *cognitoidentityprovider.AdminDeleteUserInput, ...func(*cognitoidentityprovider.Options)) (*cognitoidentityprovider.AdminDeleteUserOutput, error)
	AdminGetUser(context.Context, *cognitoidentityprovider.AdminGetUserInput, ...func(*cognitoidentityprovider.Options)) (*cognitoidentityprovider.AdminGetUserOutput, error)
}
