package managed_test

import (
	"fmt"

	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

func TestASlotOfADeletedAccountThatCannotBeDecodedStaysPendingAndIsCounted(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.SetItem(store.SlotKey(alice, managedtest.Provider), ofVersion(2))
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 || left[0].Provider != managedtest.Provider || !strings.Contains(w.Logs(), `"ItemsUndecodable":1`) {
		t.Errorf("left: %+v", left)
	}
	w.SetItem(store.SlotKey(alice, managedtest.Provider), ofVersion(1))
	w.Converge()
	w.CheckNothingLeft(alice)
}

// What only a later version can read must neither stand before what can be done, nor fill the log.
func TestWhatCannotBeDecodedIsSetAsideAndSaidOnce(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	const users = 30
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Code("limit_exceeded")})
	for i := range users {
		user := fmt.Sprint("user-", i)
		list(t, w.Engine(), user)
		w.SetItem(store.SlotKey(user, managedtest.Provider), ofVersion(2))
	}
	_, err := w.Store.Bury(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	tries := map[string]types.AttributeValue{"tries": &types.AttributeValueMemberS{Value: "many"}}
	w.SetItem(store.Key{PK: "USER#" + alice, SK: "ACCOUNT"}, tries)
	w.Heal()
	w.Clock.Advance(time.Minute)
	before := len(w.Logs())
	r := reconcile(t, w.Engine())
	if r.Done != users+1 || r.Failed != 0 {
		t.Errorf("the report is %+v", r)
	}
	said := w.Logs()[before:]
	if strings.Count(said, "cannot be decoded") != 1 || !strings.Contains(said, `"count":31`) || !strings.Contains(said, `"ItemsUndecodable":30`) {
		t.Errorf("it was logged:\n%s", said)
	}
	if again := reconcile(t, w.Engine()); again.Done != 0 {
		t.Errorf("they stand at the head still: %+v", again)
	}
	for i := range users {
		w.SetItem(store.SlotKey(fmt.Sprint("user-", i), managedtest.Provider), ofVersion(1))
	}
	tries["tries"] = nil
	w.SetItem(store.Key{PK: "USER#" + alice, SK: "ACCOUNT"}, tries)
	w.Converge()
	w.CheckExactlyOne("user-7")
	w.CheckNothingLeft(alice)
}

func TestAUsersOwnProviderIsNoMetricsDimension(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.SeedOwn(alice, "of_alices_own", 3, "repo")
	for _, key := range remains(t, w, alice).Own {
		w.SetItem(key, ofVersion(2))
	}
	list(t, w.Engine(), alice)
	if !strings.Contains(w.Logs(), `"ItemsUndecodable":3`) || strings.Contains(w.Logs(), `"provider":"of_alices_own"`) {
		t.Errorf("it was logged:\n%s", w.Logs())
	}
}

// ofVersion is what makes an item one of another version of the code.
func ofVersion(v int) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"v": &types.AttributeValueMemberN{Value: strconv.Itoa(v)}}
}
