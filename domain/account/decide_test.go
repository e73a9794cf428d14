package account

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

var (
	at        = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	signUp    = SignUp{Email: []byte("sealed e-mail"), Password: []byte("sealed hash"), At: at}
	opened    = SignedUp(signUp)
	imported  = SignedUp{Email: []byte("sealed e-mail"), Password: []byte("sealed hash"), At: at, Imported: true}
	rehashed  = PasswordRehashed{Password: []byte("a better sealed hash")}
	changed   = PasswordChanged{Password: []byte("another sealed hash")}
	suspended = Suspended{Reason: "spam"}
	decider   = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}
)

func TestDecide(t *testing.T) {
	t.Parallel()
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "sign up", When: signUp, Then: []Event{opened}},
		{Name: "sign up twice", Given: []Event{opened}, When: signUp, Err: ErrExists},
		{Name: "change password", Given: []Event{opened}, When: ChangePassword(changed), Then: []Event{changed}},
		{Name: "change password of no account", When: ChangePassword(changed), Err: ErrNotFound},
		{Name: "import", When: SignUp(imported), Then: []Event{imported}},
		{Name: "import twice", Given: []Event{imported}, When: SignUp(imported), Err: ErrExists},
		{Name: "rehash", Given: []Event{imported}, When: Rehash{Of: imported.Password, Password: rehashed.Password}, Then: []Event{rehashed}},
		{Name: "rehash again", Given: []Event{imported, rehashed}, When: Rehash{Of: imported.Password, Password: []byte("x")}},
		{Name: "rehash a changed password", Given: []Event{imported, changed}, When: Rehash{Of: imported.Password, Password: []byte("x")}},
		{Name: "rehash the password of no account", When: Rehash{Password: []byte("x")}, Err: ErrNotFound},
		{Name: "suspend", Given: []Event{opened}, When: Suspend{"spam"}, Then: []Event{suspended}},
		{Name: "suspend again", Given: []Event{opened, suspended}, When: Suspend{"another reason"}},
		{Name: "suspend no account", When: Suspend{}, Err: ErrNotFound},
		{Name: "resume", Given: []Event{opened, suspended}, When: Resume{}, Then: []Event{Resumed{}}},
		{Name: "resume again", Given: []Event{opened, suspended, Resumed{}}, When: Resume{}},
		{Name: "resume what was not suspended", Given: []Event{opened}, When: Resume{}},
		{Name: "resume no account", When: Resume{}, Err: ErrNotFound},
		{Name: "unknown command", Given: []Event{opened}, Err: domaintest.ErrAny},
	})
}

func TestEvolve(t *testing.T) {
	t.Parallel()
	s := decider.Fold(opened, changed)
	if !s.Exists() || string(s.Password) != "another sealed hash" || string(s.Email) != "sealed e-mail" || !s.CreatedAt.Equal(at) {
		t.Errorf("got state %+v, want s.Exists(), string(s.Password) == \"another sealed hash\", string(s.Email) == \"sealed e-mail\" and s.CreatedAt.Equal(at)", s)
	}
	if s := decider.Fold(imported, rehashed); string(s.Password) != "a better sealed hash" {
		t.Errorf("rehashed: got %+v, want the better hash", s)
	}
	if s := decider.Fold(opened, suspended, changed); !s.Suspended || string(s.Password) != "another sealed hash" {
		t.Errorf("suspended: got %+v, want s.Suspended and string(s.Password) == \"another sealed hash\"", s)
	}
	if decider.Fold(opened, suspended, Resumed{}, IdlePolicySet{&idle.Policy{After: 3600, Warn: 300, Ceiling: 86400, KeepUntil: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Jobs: idle.Sleep}}).Suspended {
		t.Errorf("got a suspended account after its resume, want none")
	}
	if decider.Fold().Exists() {
		t.Errorf("got an account in an empty stream, want none")
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec, imported, changed, rehashed, suspended, Resumed{}, IdlePolicySet{&idle.Policy{After: 3600, Warn: 300, Ceiling: 86400, KeepUntil: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Jobs: idle.Sleep}})
}
