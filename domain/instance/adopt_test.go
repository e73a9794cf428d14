package instance

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

func TestDecideAdopt(t *testing.T) {
	t.Parallel()
	of := Spec{ClientToken: "i-2", Type: "t3.large", Region: "r", TokenKey: "k"}
	adopt := Adopt{Account: "acc", Name: []byte("sealed"), Type: "t3.large", Attempt: 2, Spec: of, Machine: "m2", At: t0}
	adopted := []Event{
		Requested{Account: "acc", Name: []byte("sealed"), Type: "t3.large", Region: "r"},
		LaunchAttempted{2, t0, of}, MachineLaunched{2, "m2", t0},
	}
	ended := after(launched, EnrolmentEnded{1})
	again := Adopt{Account: "acc", Attempt: 1, Machine: "m1", At: t0.Add(time.Hour)}
	reopened := after(ended, EnrolmentReopened{1, again.At})
	enroll := Enroll{1, key, t0.Add(time.Minute)}
	enrolled := GuestEnrolled{1, key}
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "adopt a stranger", When: adopt, Then: adopted},
		{Name: "adopt it twice", Given: adopted, When: adopt},
		{Name: "its guest enrols", Given: adopted, When: Enroll{2, key, t0.Add(EnrolWithin)}, Then: []Event{GuestEnrolled{2, key}}},
		{Name: "it runs", Given: adopted, When: Observe{Machine: "m2", Seen: SeenRunning, Address: "a", At: t0}, Then: []Event{MachineRunning{Address: "a", At: t0}}},
		{Name: "it is stopped", Given: adopted, When: Observe{Machine: "m2", Seen: SeenStopped, At: t0}, Then: []Event{MachineStopped{}}},
		{Name: "for another account", Given: adopted, When: Adopt{Account: "other", Machine: "m2"}, Err: ErrExists},
		{Name: "the instance has another machine", Given: running, When: adopt, Err: ErrExists},
		{Name: "the instance has ended", Given: failed, When: again, Err: ErrExists},
		{Name: "nothing to reopen", Given: running, When: again},

		{Name: "end an enrolment", Given: launched, When: EndEnrolment{}, Then: []Event{EnrolmentEnded{1}}},
		{Name: "end it while the launch is open", Given: open, When: EndEnrolment{}, Then: []Event{EnrolmentEnded{1}}},
		{Name: "end it twice", Given: ended, When: EndEnrolment{}},
		{Name: "the guest has enrolled", Given: after(launched, enrolled), When: EndEnrolment{}},
		{Name: "no attempt yet", Given: requested, When: EndEnrolment{}},
		{Name: "between attempts", Given: after(open, CallRefused{Call: CallLaunch, Attempt: 1, Tries: 1, Verdict: Another}), When: EndEnrolment{}},
		{Name: "it has ended anyway", Given: terminated, When: EndEnrolment{}},
		{Name: "enrol with an ended token", Given: ended, When: enroll, Err: ErrEnrolment},
		{Name: "reopen", Given: ended, When: again, Then: []Event{EnrolmentReopened{1, again.At}}},
		{Name: "reopen twice", Given: reopened, When: again},
		{Name: "enrol with a reopened token", Given: reopened, When: Enroll{1, key, again.At.Add(EnrolWithin)}, Then: []Event{enrolled}},
		{Name: "enrol too late", Given: reopened, When: Enroll{1, key, again.At.Add(EnrolWithin + 1)}, Err: ErrEnrolment},
		{Name: "the next attempt's token is valid", Given: after(ended, CallRefused{Call: CallLaunch, Attempt: 1, Tries: 1, Verdict: Another}, LaunchAttempted{2, t0, spec}),
			When: Enroll{2, key, t0}, Then: []Event{GuestEnrolled{2, key}}},
	})
}
