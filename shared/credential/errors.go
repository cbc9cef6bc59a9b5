package credential

import (
	"errors"
	"fmt"
)

// The errors that a caller of the service can meet. Package gateway turns them into status codes,
// in one table.
var (
	// ErrUnauthenticated: nobody is known to be asking.
	ErrUnauthenticated = errors.New("unauthorized")
	// ErrAccountDeleted: the user's account was deleted; nothing is listed, read, made or released
	// for it any more.
	ErrAccountDeleted = errors.New("the account has been deleted")
	// ErrAccountSuspended: the user is disabled, and not deleted: nothing is listed, read, made,
	// changed or released for them until they are enabled again, and nothing is removed.
	ErrAccountSuspended = errors.New("the account is suspended")
	// ErrNotFound: no such credential. One error for unknown, wrong provider and somebody else's.
	ErrNotFound = errors.New("credential not found")
	// ErrForged: a body claims to be a managed credential, which no user makes.
	ErrForged = errors.New("the body claims to be a managed credential")
	// ErrManaged: the credential is one that the service manages, and no user changes it.
	ErrManaged = errors.New("the credential is managed by the service")
	// ErrSystem: the credential is the platform's, and no user changes it.
	ErrSystem = errors.New("the credential is the system's")
	// ErrNoProvider: no provider of that name is registered.
	ErrNoProvider = errors.New("no such provider is registered")
	// ErrNotOffered: no managed credential of that provider is made for this user.
	ErrNotOffered = errors.New("no managed credential is offered there")
	// ErrKept: the owner does not let users remove this managed credential.
	ErrKept = errors.New("the owner does not let users remove this managed credential")
	// ErrNotUsable: the credential exists, and there is no secret of it that can be used now.
	ErrNotUsable = errors.New("the credential cannot be used now")
	// ErrChanged: the credential is not, or no more, the revision that a change was meant for.
	ErrChanged = errors.New("the credential was changed elsewhere")
	// ErrRepeated: the request has the key of an earlier one, and another body.
	ErrRepeated = errors.New("the idempotency key was sent with another body before")
	// ErrTooLarge: the secret fields together exceed what can be sealed.
	ErrTooLarge = fmt.Errorf("the secret fields together exceed %d bytes", MaxMaterial)
	// ErrOpenTooLarge: what is stored in the clear of one credential would exceed 4 KB, with the
	// longest title that it may have.
	ErrOpenTooLarge = fmt.Errorf("the username and the scopes together exceed %d bytes", maxOpen)
)

// LimitError says that the user has as many credentials of their own as one may have.
type LimitError struct{ Most int }

func (e *LimitError) Error() string {
	return fmt.Sprintf("There are %d credentials of your own already, as many as an account may have: delete one first.", e.Most)
}

// FieldError says which field of a request is wrong, and how.
type FieldError struct {
	// Field is its name, or "body" for the whole.
	Field string
	// Problem completes the sentence that Field begins. It never quotes the value.
	Problem string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// TypeError says that a change is of another type than the credential.
type TypeError struct{ Stored, Change Type }

func (e *TypeError) Error() string {
	return fmt.Sprintf("the change is of type %s, and the credential of type %s", e.Change, e.Stored)
}

// ConflictError says what keeps a request from being done as things are, in a text for the caller.
type ConflictError struct{ Detail string }

func (e *ConflictError) Error() string { return e.Detail }
