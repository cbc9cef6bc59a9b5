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
	// ErrNotFound: no such credential. One error for unknown, wrong provider and somebody else's.
	ErrNotFound = errors.New("credential not found")
	// ErrNotUsable: the credential exists, and there is no secret of it that can be used now.
	ErrNotUsable = errors.New("the credential cannot be used now")
	// ErrChanged: the credential is not, or no more, the revision that a change was meant for.
	ErrChanged = errors.New("the credential was changed elsewhere")
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

// ForbiddenError says what may not be done to this credential, in a text for the user.
type ForbiddenError struct{ Detail string }

func (e *ForbiddenError) Error() string { return e.Detail }
