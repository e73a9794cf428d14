package instance

import "time"

type (
	// Adopt is an operator's: it gives an account a machine that exists and that the log does not know, as an instance
	// of its own. For the machine of an instance whose guest has not enrolled, it accepts the enrolment token again.
	Adopt struct {
		Account string
		Name    []byte // sealed
		Type    string
		Attempt int  // of its tags
		Spec    Spec // what is known of its launch
		Machine string
		At      time.Time
	}
	// EndEnrolment ends the enrolment token of a machine whose guest has not enrolled.
	EndEnrolment struct{}
)

func (Adopt) command()        {}
func (EndEnrolment) command() {}

// decideAdopt writes the history that the machine would have had. What it runs and its address follow from what the
// cloud reports, and its guest enrols with the token that it was launched with.
func decideAdopt(s State, c Adopt) ([]Event, error) {
	switch {
	case !s.Exists():
		return []Event{
			Requested{Account: c.Account, Name: c.Name, Type: c.Type, Region: c.Spec.Region},
			LaunchAttempted{Attempt: c.Attempt, At: c.At, Spec: c.Spec},
			MachineLaunched{Attempt: c.Attempt, Machine: c.Machine, At: c.At},
		}, nil
	case s.Account != c.Account || s.Machine != c.Machine || s.Final():
		return nil, ErrExists
	case s.Awaits() && s.NoEnrol == s.Attempts:
		return []Event{EnrolmentReopened{Attempt: s.Attempts, At: c.At}}, nil
	}
	return nil, nil
}
