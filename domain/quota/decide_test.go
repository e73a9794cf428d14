package quota

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

var decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func TestDecide(t *testing.T) {
	t.Parallel()
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "take", When: Take{Instance: "a", Limit: 1}, Then: []Event{SlotTaken{"a"}}},
		{Name: "take again", Given: []Event{SlotTaken{"a"}}, When: Take{Instance: "a", Limit: 1}},
		{Name: "take again beyond a lowered limit", Given: []Event{SlotTaken{"a"}}, When: Take{Instance: "a", Limit: 0}},
		{Name: "take the last", Given: []Event{SlotTaken{"a"}}, When: Take{Instance: "b", Limit: 2}, Then: []Event{SlotTaken{"b"}}},
		{Name: "take after release", Given: []Event{SlotTaken{"a"}, SlotReleased{"a"}}, When: Take{Instance: "b", Limit: 1}, Then: []Event{SlotTaken{"b"}}},
		{Name: "none left", Given: []Event{SlotTaken{"a"}}, When: Take{Instance: "b", Limit: 1}, Err: domaintest.ErrAny},
		{Name: "no slots at all", When: Take{Instance: "a", Limit: 0}, Err: domaintest.ErrAny},
		{Name: "release", Given: []Event{SlotTaken{"a"}}, When: Release{"a"}, Then: []Event{SlotReleased{"a"}}},
		{Name: "release again", Given: []Event{SlotTaken{"a"}, SlotReleased{"a"}}, When: Release{"a"}},
		{Name: "release another's", Given: []Event{SlotTaken{"a"}}, When: Release{"b"}},
		{Name: "allow", When: SetAllowance{starter}, Then: []Event{AllowanceSet{starter}}},
		{Name: "allow again", Given: []Event{AllowanceSet{starter}}, When: SetAllowance{starter}},
		{Name: "allow until another time", Given: []Event{AllowanceSet{starter}}, When: SetAllowance{stopping}, Then: []Event{AllowanceSet{stopping}}},
		{Name: "plans: never assessed", When: plans("a", "t3.medium"), Err: domaintest.ErrAny},
		{Name: "plans: take", Given: []Event{AllowanceSet{starter}}, When: plans("a", "t3.medium"), Then: []Event{SlotTaken{"a"}}},
		{Name: "plans: take again", Given: []Event{AllowanceSet{starter}, SlotTaken{"a"}, AllowanceSet{none}}, When: plans("a", "t3.medium")},
		{Name: "plans: ended", Given: []Event{AllowanceSet{starter}, AllowanceSet{none}}, When: plans("a", "t3.medium"), Err: domaintest.ErrAny},
		{Name: "plans: another type", Given: []Event{AllowanceSet{starter}}, When: plans("a", "t3.large"), Err: domaintest.ErrAny},
		{Name: "plans: the last", Given: []Event{AllowanceSet{starter}, SlotTaken{"a"}}, When: plans("b", "local"), Then: []Event{SlotTaken{"b"}}},
		{Name: "plans: none left", Given: []Event{AllowanceSet{starter}, SlotTaken{"a"}, SlotTaken{"b"}}, When: plans("c", "t3.medium"), Err: domaintest.ErrAny},
		{Name: "plans: the server's limit does not count", Given: []Event{AllowanceSet{starter}}, When: Take{Instance: "a", Plans: true, Type: "local"}, Then: []Event{SlotTaken{"a"}}},
		{Name: "without plans the server's limit counts", Given: []Event{AllowanceSet{none}}, When: Take{Instance: "a", Limit: 1, Type: "t3.xlarge"}, Then: []Event{SlotTaken{"a"}}},
		{Name: "start", Given: []Event{AllowanceSet{starter}, SlotTaken{"a"}}, When: AdmitStart{"a", "t3.medium"}, Then: []Event{StartAdmitted{"a"}}},
		{Name: "start: never assessed", Given: []Event{SlotTaken{"a"}}, When: AdmitStart{"a", "t3.medium"}, Err: domaintest.ErrAny},
		{Name: "start: ended", Given: []Event{AllowanceSet{starter}, SlotTaken{"a"}, AllowanceSet{none}}, When: AdmitStart{"a", "t3.medium"}, Err: domaintest.ErrAny},
		{Name: "start: another type", Given: []Event{AllowanceSet{starter}, SlotTaken{"a"}}, When: AdmitStart{"a", "t3.large"}, Err: domaintest.ErrAny},
		{Name: "start: too many", Given: []Event{AllowanceSet{starter}, SlotTaken{"a"}, SlotTaken{"b"}, SlotTaken{"c"}}, When: AdmitStart{"a", "t3.medium"}, Err: domaintest.ErrAny},
		{Name: "launch with a plan", Given: []Event{AllowanceSet{billing.Access{Level: billing.Due, Plan: billing.Pro, Desktops: 1}}, SlotTaken{"a"}, SlotTaken{"b"}}, When: AdmitLaunch{"a"}, Then: []Event{StartAdmitted{"a"}}},
		{Name: "launch without a plan", Given: []Event{AllowanceSet{billing.Access{Level: billing.None, Reason: billing.PlanEnded}}, SlotTaken{"a"}}, When: AdmitLaunch{"a"}, Err: domaintest.ErrAny},
		{Name: "launch where nothing is known", When: AdmitLaunch{"a"}, Err: domaintest.ErrAny},
		{Name: "unknown command", Err: domaintest.ErrAny},
	})
}

var (
	starter  = billing.Access{Level: billing.Full, Plan: billing.Starter, Desktops: 2, Types: []string{"t3.medium"}, At: noon}
	stopping = billing.Access{Level: billing.Full, Plan: billing.Starter, Desktops: 2, Types: []string{"t3.medium"}, StopAt: noon, At: noon}
	none     = billing.Access{Level: billing.None, Plan: billing.Starter, Reason: billing.PlanEnded, StopAt: noon, At: noon}
)

func plans(id, machineType string) Take {
	return Take{Instance: id, Limit: 1, Plans: true, Type: machineType}
}

// The newest desktops are beyond a smaller plan, in the order in which they were created.
func TestBeyond(t *testing.T) {
	t.Parallel()
	s := decider.Fold(SlotTaken{"z"}, SlotTaken{"y"}, SlotTaken{"x"}, SlotTaken{"z"}, SlotReleased{"y"}, SlotTaken{"a"}, AllowanceSet{starter})
	if got := s.Instances(); !slices.Equal(got, []string{"z", "x", "a"}) {
		t.Fatalf("got %v, want z, x and a", got)
	}
	for id, want := range map[string]bool{"z": false, "x": false, "a": true, "y": false} {
		if got := s.Beyond(id); got != want {
			t.Errorf("%s: got %v, want %v", id, got, want)
		}
	}
}

func TestExceededPlan(t *testing.T) {
	t.Parallel()
	enterprise := billing.Access{Level: billing.Full, Plan: billing.Enterprise, Desktops: 1, Types: []string{"t3.medium"}}
	for want, a := range map[string]billing.Access{
		"You have 2 of the 2 desktops of the plan Starter. Terminate one to create another, or choose a larger plan.": starter,
		"You have 2 of the 1 desktop of the plan Enterprise. Terminate 2 to create another.":                          enterprise,
	} {
		_, err := Decide(decider.Fold(AllowanceSet{a}, SlotTaken{"a"}, SlotTaken{"b"}), plans("c", "t3.medium"))
		var refused *domain.Error
		if !errors.As(err, &refused) || refused.Code != "quota_exceeded" || refused.Msg != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestExceeded(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]string{
		1: "You have 2 of 1 desktop. Terminate 2 to create another.",
		2: "You have 2 of 2 desktops. Terminate one to create another.",
	} {
		s := decider.Fold(SlotTaken{"a"}, SlotTaken{"b"})
		_, err := Decide(s, Take{Instance: "c", Limit: limit})
		var refused *domain.Error
		if !errors.As(err, &refused) || refused.Kind != domain.Conflict || refused.Code != "quota_exceeded" || refused.Msg != want {
			t.Errorf("limit %d: got %v, want an error as &refused, refused.Kind == %v, refused.Code == \"quota_exceeded\" and refused.Msg == %v", limit, err, domain.Conflict, want)
		}
	}
}

// For any commands in any order, at most limit slots are held, and repeating a command adds nothing.
func TestNeverExceeded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 4).Draw(t, "limit")
		var s State
		held := map[string]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "commands") {
			id := rapid.StringMatching("[a-f]").Draw(t, "instance")
			var c Command = Release{id}
			if rapid.Bool().Draw(t, "take") {
				c = Take{Instance: id, Limit: limit}
			}
			before := s
			events, err := Decide(s, c)
			for _, e := range events {
				s = Evolve(s, e)
			}
			switch c.(type) {
			case Take:
				if err == nil {
					held[id] = true
				}
			case Release:
				delete(held, id)
			}
			if s.Held() > limit || s.Held() != len(held) {
				t.Fatalf("got %d slots held, want %d, at most %d", s.Held(), len(held), limit)
			}
			if again, err2 := Decide(s, c); len(again) > 0 || (err == nil) != (err2 == nil) {
				t.Fatalf("%+v again: got %v, %v, want no events and error %v", c, again, err2, err)
			}
			if len(events) > 0 && before.Held() == s.Held() {
				t.Fatalf("got the state before changed in place by %+v, want it as it was", events)
			}
		}
	})
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec, SlotTaken{"01JINSTANCE"}, SlotReleased{"01JINSTANCE"},
		AllowanceSet{billing.Access{Level: billing.Due, Plan: billing.Pro, Desktops: 5, Types: []string{"t3.medium", "t3.large"}, Reason: billing.PaymentFailed, StopAt: noon.Add(time.Hour), BeyondAt: noon, At: noon}}, StartAdmitted{"01JINSTANCE"})
}
