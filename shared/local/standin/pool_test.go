package standin_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	idp "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"

	"managed-credentials/shared/local/standin"
)

const poolID = "us-east-1_local"

func startPool(t *testing.T, cfg standin.PoolConfig) (*standin.Pool, *idp.Client) {
	t.Helper()
	cfg.UserPoolID = poolID
	server := standin.NewPool(cfg)
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	return server, idp.New(idp.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(web.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
}

func get(t *testing.T, client *idp.Client, username string) (*idp.AdminGetUserOutput, error) {
	t.Helper()
	return client.AdminGetUser(t.Context(), &idp.AdminGetUserInput{UserPoolId: aws.String(poolID), Username: aws.String(username)})
}

func remove(t *testing.T, client *idp.Client, username string) error {
	t.Helper()
	_, err := client.AdminDeleteUser(t.Context(), &idp.AdminDeleteUserInput{UserPoolId: aws.String(poolID), Username: aws.String(username)})
	return err
}

func wantNoUser(t *testing.T, err error) {
	t.Helper()
	var notFound *types.UserNotFoundException
	if !errors.As(err, &notFound) {
		t.Errorf("got %v, want UserNotFoundException", err)
	}
}

func TestAUserIsFoundByNameAndBySub(t *testing.T) {
	t.Parallel()
	server, client := startPool(t, standin.PoolConfig{Users: []standin.User{{Username: "ada", Sub: "sub-ada"}}})
	server.AddUser(standin.User{Username: "eve", Sub: "sub-eve"})
	for _, name := range []string{"eve", "sub-eve"} {
		out, err := get(t, client, name)
		if err != nil {
			t.Fatalf("getting %s: %v", name, err)
		}
		if *out.Username != "eve" || !out.Enabled || out.UserStatus != types.UserStatusTypeConfirmed ||
			out.UserCreateDate == nil || out.UserCreateDate.IsZero() {
			t.Errorf("getting %s gave %+v", name, out)
		}
		if len(out.UserAttributes) != 1 || *out.UserAttributes[0].Name != "sub" || *out.UserAttributes[0].Value != "sub-eve" {
			t.Errorf("getting %s gave attributes %+v", name, out.UserAttributes)
		}
	}
	_, err := get(t, client, "nobody")
	wantNoUser(t, err)
}

func TestADeletedUserIsGoneAndReportedOnce(t *testing.T) {
	t.Parallel()
	var deleted [][2]string
	server, client := startPool(t, standin.PoolConfig{
		Users:    []standin.User{{Username: "ada", Sub: "sub-ada"}, {Username: "eve", Sub: "sub-eve"}},
		OnDelete: func(sub, username string) { deleted = append(deleted, [2]string{sub, username}) },
	})
	err := remove(t, client, "ada")
	if err != nil {
		t.Fatal(err)
	}
	wantNoUser(t, remove(t, client, "ada"))
	_, err = get(t, client, "ada")
	wantNoUser(t, err)
	_, err = get(t, client, "eve")
	if err != nil {
		t.Errorf("another user: %v", err)
	}
	if left := server.Users(); len(left) != 1 || left[0].Username != "eve" {
		t.Errorf("in the pool are %+v", left)
	}
	if len(deleted) != 1 || deleted[0] != [2]string{"sub-ada", "ada"} {
		t.Errorf("reported %v", deleted)
	}
}

func TestADisabledUserStaysAndIsEnabledAgain(t *testing.T) {
	t.Parallel()
	var told []string
	server, client := startPool(t, standin.PoolConfig{
		Users:    []standin.User{{Username: "ada", Sub: "sub-ada"}, {Username: "eve", Sub: "sub-eve"}},
		OnSwitch: func(sub string, enabled bool) { told = append(told, fmt.Sprint(sub, " ", enabled)) },
	})
	check := func(doing string, enabled bool) {
		t.Helper()
		server.AddUser(standin.User{Username: "ada", Sub: "sub-ada"}) // who is there already
		for name, want := range map[string]bool{"ada": enabled, "sub-ada": enabled, "eve": true} {
			out, err := get(t, client, name)
			if err != nil || out.Enabled != want || out.UserLastModifiedDate.Before(*out.UserCreateDate) {
				t.Errorf("%s: %s is %+v, %v", doing, name, out, err)
			}
		}
		out, err := client.ListUsers(t.Context(), &idp.ListUsersInput{UserPoolId: aws.String(poolID), Filter: aws.String(`sub = "sub-ada"`)})
		if err != nil || len(out.Users) != 1 || out.Users[0].Enabled != enabled {
			t.Errorf("%s: the list is %+v, %v", doing, out, err)
		}
	}
	disable := func(name, pool string) error {
		_, err := client.AdminDisableUser(t.Context(), &idp.AdminDisableUserInput{UserPoolId: &pool, Username: &name})
		return err
	}
	enable := func(name, pool string) error {
		_, err := client.AdminEnableUser(t.Context(), &idp.AdminEnableUserInput{UserPoolId: &pool, Username: &name})
		return err
	}
	for range 2 { // each is no error where it changes nothing
		err := disable("ada", poolID)
		if err != nil {
			t.Fatal(err)
		}
		check("disabled", false)
	}
	for range 2 {
		err := enable("sub-ada", poolID)
		if err != nil {
			t.Fatal(err)
		}
		check("enabled", true)
	}
	wantNoUser(t, disable("nobody", poolID))
	wantNoUser(t, enable("nobody", poolID))
	for _, err := range []error{disable("ada", "us-east-1_other"), enable("ada", "us-east-1_other")} {
		var notFound *types.ResourceNotFoundException
		if !errors.As(err, &notFound) {
			t.Errorf("in another pool: %v", err)
		}
	}
	if want := []string{"sub-ada false", "sub-ada false", "sub-ada true", "sub-ada true"}; !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

// A user who has taken another's sub for a name comes first while they exist; once they are gone,
// that name means the other. A caller that repeats a deletion by name alone therefore deletes the
// wrong user.
func TestANameThatIsAnothersSubFindsTheOtherOnceItsOwnerIsGone(t *testing.T) {
	t.Parallel()
	_, client := startPool(t, standin.PoolConfig{Users: []standin.User{
		{Username: "ada", Sub: "sub-ada"},
		{Username: "sub-ada", Sub: "sub-eve"},
	}})
	err := remove(t, client, "sub-ada")
	if err != nil {
		t.Fatal(err)
	}
	out, err := get(t, client, "sub-ada")
	if err != nil {
		t.Fatal(err)
	}
	if *out.Username != "ada" {
		t.Errorf("found %s", *out.Username)
	}
}

func TestAnotherPoolDoesNotExist(t *testing.T) {
	t.Parallel()
	_, client := startPool(t, standin.PoolConfig{Users: []standin.User{{Username: "ada", Sub: "sub-ada"}}})
	_, getErr := client.AdminGetUser(t.Context(), &idp.AdminGetUserInput{
		UserPoolId: aws.String("us-east-1_other"), Username: aws.String("ada"),
	})
	_, deleteErr := client.AdminDeleteUser(t.Context(), &idp.AdminDeleteUserInput{
		UserPoolId: aws.String("us-east-1_other"), Username: aws.String("ada"),
	})
	for _, err := range []error{getErr, deleteErr} {
		var notFound *types.ResourceNotFoundException
		if !errors.As(err, &notFound) || notFound.ErrorMessage() != "User pool us-east-1_other does not exist." {
			t.Errorf("got %v", err)
		}
	}
}
