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

// PoolConfig says what the pool is and who hears of what is done to its users.
type PoolConfig struct {
	// UserPoolID is the one pool that exists, such as "us-east-1_local".
	UserPoolID string
	// Users are in the pool from the start.
	Users []User
	// OnDelete, if set, is called once for each user that AdminDeleteUser has removed, before the
	// call is answered. No lock is held.
	OnDelete func(sub, username string)
	// OnSwitch, if set, is called for each call of AdminDisableUser and AdminEnableUser that
	// succeeds, before it is answered, also where it changed nothing. No lock is held.
	OnSwitch func(sub string, enabled bool)
}

// User is one user of the pool. In a pool that signs in by e-mail address AWS gives both fields the
// same value.
type User struct {
	Username string
	// Sub is the claim that identifies the user in tokens.
	Sub string
}

// Pool stands in for the administration of one Amazon Cognito user pool: looking a user up,
// disabling and enabling one, and deleting one. It signs nobody in and issues no tokens. It is an
// http.Handler, safe for concurrent use.
type Pool struct {
	api      service
	poolID   string
	onDelete func(sub, username string)
	onSwitch func(sub string, enabled bool)

	mu    sync.Mutex
	users map[string]record // by user name
}

type record struct {
	User
	created, changed time.Time
	disabled         bool
}

// NewPool makes a server for the pool of cfg.
func NewPool(cfg PoolConfig) *Pool {
	s := &Pool{poolID: cfg.UserPoolID, onDelete: cfg.OnDelete, onSwitch: cfg.OnSwitch, users: map[string]record{}}
	for _, u := range cfg.Users {
		s.AddUser(u)
	}
	s.api = service{target: "AWSCognitoIdentityProviderService", operations: map[string]operation{
		"AdminGetUser":     op(s.adminGetUser),
		"AdminDeleteUser":  op(s.adminDeleteUser),
		"AdminDisableUser": op(func(in userInput) (any, error) { return s.switchUser(in, false) }),
		"AdminEnableUser":  op(func(in userInput) (any, error) { return s.switchUser(in, true) }),
		"ListUsers":        op(s.listUsers),
	}}
	return s
}

func (s *Pool) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.api.ServeHTTP(w, r) }

// AddUser puts a user into the pool, enabled, in place of one with the same user name and another
// sub.
func (s *Pool) AddUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[u.Username].User == u {
		return
	}
	now := time.Now()
	s.users[u.Username] = record{User: u, created: now, changed: now}
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
	return adminGetUserOutput{
		Username:             u.Username,
		UserAttributes:       []attribute{{Name: "sub", Value: u.Sub}},
		Enabled:              !u.disabled,
		UserStatus:           "CONFIRMED",
		UserCreateDate:       seconds(u.created),
		UserLastModifiedDate: seconds(u.changed),
	}, nil
}

// switchUser disables or enables a user. One who is so already is no error.
func (s *Pool) switchUser(in userInput, enabled bool) (any, error) {
	sub, err := s.switched(in, enabled)
	if err != nil {
		return nil, err
	}
	if s.onSwitch != nil {
		s.onSwitch(sub, enabled)
	}
	return nil, nil
}

// Switch disables or enables the user with the given name or sub, as AdminDisableUser and
// AdminEnableUser do, without telling anybody. It reports whether there is such a user.
func (s *Pool) Switch(username string, enabled bool) bool {
	_, err := s.switched(userInput{s.poolID, username}, enabled)
	return err == nil
}

func (s *Pool) switched(in userInput, enabled bool) (sub string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.find(in)
	if err != nil {
		return "", err
	}
	u.disabled, u.changed = !enabled, time.Now()
	s.users[u.Username] = u
	return u.Sub, nil
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
	Enabled    bool
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
			users = append(users, listedUser{u.Username, []attribute{{Name: "sub", Value: u.Sub}}, !u.disabled})
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
