package standin

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// PoolConfig says what the pool is and who hears of a deletion.
type PoolConfig struct {
	// UserPoolID is the one pool that exists, such as "us-east-1_local".
	UserPoolID string
	// Users are in the pool from the start.
	Users []User
	// OnDelete, if set, is called once for each user that AdminDeleteUser has removed, before the
	// call is answered. No lock is held.
	OnDelete func(sub, username string)
}

// User is one user of the pool. In a pool that signs in by e-mail address AWS gives both fields the
// same value.
type User struct {
	Username string
	// Sub is the claim that identifies the user in tokens.
	Sub string
}

// Pool stands in for the administration of one Amazon Cognito user pool: looking a user up and
// deleting one. It signs nobody in and issues no tokens. It is an http.Handler, safe for concurrent
// use.
type Pool struct {
	api      service
	poolID   string
	onDelete func(sub, username string)

	mu    sync.Mutex
	users map[string]record // by user name
}

type record struct {
	User
	created time.Time
}

// NewPool makes a server for the pool of cfg.
func NewPool(cfg PoolConfig) *Pool {
	s := &Pool{poolID: cfg.UserPoolID, onDelete: cfg.OnDelete, users: map[string]record{}}
	for _, u := range cfg.Users {
		s.AddUser(u)
	}
	s.api = service{target: "AWSCognitoIdentityProviderService", operations: map[string]operation{
		"AdminGetUser":    op(s.adminGetUser),
		"AdminDeleteUser": op(s.adminDeleteUser),
		"ListUsers":       op(s.listUsers),
	}}
	return s
}

func (s *Pool) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.api.ServeHTTP(w, r) }

// AddUser puts a user into the pool, in place of one with the same user name.
func (s *Pool) AddUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Username] = record{User: u, created: time.Now()}
}

// Users are those who are in the pool, ordered by user name.
func (s *Pool) Users() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []User
	for _, name := range slices.Sorted(maps.Keys(s.users)) {
		all = append(all, s.users[name].User)
	}
	return all
}

type userInput struct {
	UserPoolID string `json:"UserPoolId"`
	Username   string
}

type attribute struct{ Name, Value string }

type adminGetUserOutput struct {
	Username             string
	UserAttributes       []attribute
	Enabled              bool
	UserStatus           string
	UserCreateDate       float64
	UserLastModifiedDate float64
}

func (s *Pool) adminGetUser(in userInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.find(in)
	if err != nil {
		return nil, err
	}
	created := seconds(u.created)
	return adminGetUserOutput{
		Username:             u.Username,
		UserAttributes:       []attribute{{Name: "sub", Value: u.Sub}},
		Enabled:              true,
		UserStatus:           "CONFIRMED",
		UserCreateDate:       created,
		UserLastModifiedDate: created,
	}, nil
}

type listUsersInput struct {
	UserPoolID      string `json:"UserPoolId"`
	Filter          string
	AttributesToGet []string
	Limit           int
}

type listedUser struct {
	Username   string
	Attributes []attribute
}

// bySub is the one filter that is known here; AWS has more.
var bySub = regexp.MustCompile(`^sub = ("(?:[^"\\]|\\.)*")$`)

func (s *Pool) listUsers(in listUsersInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.UserPoolID != s.poolID {
		return nil, refuse("ResourceNotFoundException", "User pool %s does not exist.", in.UserPoolID)
	}
	match := bySub.FindStringSubmatch(in.Filter)
	if match == nil {
		return nil, refuse("InvalidParameterException", "The filter is not one that this stand-in knows.")
	}
	sub, err := strconv.Unquote(match[1])
	if err != nil {
		return nil, refuse("InvalidParameterException", "The filter is malformed.")
	}
	users := []listedUser{}
	for _, u := range s.users {
		if u.Sub == sub {
			users = append(users, listedUser{u.Username, []attribute{{Name: "sub", Value: u.Sub}}})
		}
	}
	return struct{ Users []listedUser }{users}, nil
}

func (s *Pool) adminDeleteUser(in userInput) (any, error) {
	u, err := s.remove(in)
	if err != nil {
		return nil, err
	}
	if s.onDelete != nil {
		s.onDelete(u.Sub, u.Username)
	}
	return nil, nil
}

func (s *Pool) remove(in userInput) (record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.find(in)
	if err != nil {
		return record{}, err
	}
	delete(s.users, u.Username)
	return u, nil
}

// find returns the user that a request means. AWS takes a user's sub in place of the user name
// (https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/API_AdminGetUser.html),
// so that a name that nobody has may still find somebody. Which of two users comes first, when one
// is named after the other's sub, is not documented; here it is the name.
func (s *Pool) find(in userInput) (record, error) {
	if in.UserPoolID != s.poolID {
		return record{}, refuse("ResourceNotFoundException", "User pool %s does not exist.", in.UserPoolID)
	}
	u, ok := s.users[in.Username]
	if ok {
		return u, nil
	}
	for _, u := range s.users {
		if u.Sub == in.Username {
			return u, nil
		}
	}
	return record{}, refuse("UserNotFoundException", "User does not exist.")
}
