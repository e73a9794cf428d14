package projections_test

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/domain/audit"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/claim"
	"github.com/cloudbot-ai/control-plane/domain/fleet"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/invite"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/domain/restore"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Canaries: sealed or secret values of the events, which must not be in any history.
const (
	canaryMail, canaryHash, canaryKey, canaryName = "canary-mail", "canary-hash", "canary-apikey", "canary-name"
	canaryUserData, canaryGuest, canaryToken      = "canary-userdata", "canary-guest-key-32-bytes-long--", "canary-token"
	canaryURL                                     = "canary-url"
)

// everything writes one event of every type, for one account, with a canary in each field that must stay
// secret.
func (w *world) everything(acc, id string) {
	at := began
	leaf := session.Leaf{Generation: 1, TokenID: canaryToken, IssuedAt: at, ExpiresAt: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)}
	policy := idle.Policy{After: 1800, Warn: 300, Ceiling: 86400, KeepUntil: at, Jobs: idle.Wake}
	second := leaf
	second.Generation = 2
	if n, err := w.store.Version(w.t.Context(), eventstore.StreamID{Aggregate: "account", ID: acc}); err != nil {
		w.t.Fatal(err)
	} else if n == 0 {
		w.append(encoded[account.Event](w, "account", acc, account.Codec.Encode, account.SignedUp{Email: []byte(canaryMail), Password: []byte(canaryHash), At: at})...)
	}
	w.append(encoded[account.Event](w, "account", acc, account.Codec.Encode, account.PasswordChanged{Password: []byte(canaryHash)}, account.PasswordRehashed{Password: []byte(canaryHash)}, account.Suspended{Reason: "Spam."}, account.Resumed{},
		account.IdlePolicySet{Policy: &policy})...)
	w.append(encoded[claim.Event](w, "email", "mail-"+acc, claim.Codec.Encode, claim.Claimed{Account: acc})...)
	w.append(encoded[quota.Event](w, "quota", acc, quota.Codec.Encode, quota.SlotTaken{Instance: id}, quota.SlotReleased{Instance: id},
		quota.AllowanceSet{Access: billing.Access{Level: billing.None, Reason: billing.NoPlan, At: at}}, quota.StartAdmitted{Instance: id})...)
	w.append(encoded[billing.Event](w, "billing", acc, billing.Codec.Encode, billingEvents(acc, at)...)...)
	w.append(encoded[fleet.Event](w, "fleet", "all-"+id, fleet.Codec.Encode, fleet.Counted{Count: 4}, fleet.Grown{Instance: id, Count: 5}, fleet.Shrunk{Instance: id, Count: 4})...)
	w.append(encoded[restore.Event](w, "restore", "log-"+id, restore.Codec.Encode, restore.Finished{Epoch: 2, MadeAt: at, RestoredAt: at}, restore.MachineRemoved{Machine: "i-9"})...)
	w.append(encoded[invite.Event](w, "invite", "used-"+id, invite.Codec.Encode, invite.Created{Address: canaryToken, At: at, ExpiresAt: at}, invite.Used{Account: acc})...)
	w.append(encoded[token.Event](w, "token", acc, token.Codec.Encode, token.Created{Token: token.Token{ID: "01T" + id, Name: []byte(canaryName), Hash: []byte(canaryHash), Scopes: token.Scopes, At: at}},
		token.Used{ID: "01T" + id, At: at}, token.Revoked{ID: "01T" + id})...)
	w.append(encoded[invite.Event](w, "invite", "revoked-"+id, invite.Codec.Encode, invite.Created{At: at, ExpiresAt: at}, invite.Revoked{})...)
	w.append(encoded[session.Event](w, "session", "live-"+id, session.Codec.Encode, session.Started{Account: acc, Leaf: leaf, Agent: "browser", Address: seal(acc, addressLabel("live-"+id), "192.0.2.8")}, session.Refreshed{Leaf: second})...)
	w.append(encoded[session.Event](w, "session", "over-"+id, session.Codec.Encode, session.Started{Account: acc, Leaf: leaf, Agent: "old browser"}, session.Ended{Reason: session.Reused})...)
	w.append(encoded[apikey.Event](w, "apikey", acc+"-openai", apikey.Codec.Encode, apikey.Stored{Account: acc, Provider: "openai", Version: 1, Key: []byte(canaryKey), Last4: "ab12"})...)
	w.append(encoded[apikey.Event](w, "apikey", acc+"-xai", apikey.Codec.Encode, apikey.Stored{Account: acc, Provider: "xai", Version: 1, Key: []byte(canaryKey), Last4: "cd34"}, apikey.Removed{Account: acc, Provider: "xai"})...)
	w.append(encoded[audit.Event](w, "audit", acc, audit.Codec.Encode, audit.LogInFailed{}, audit.KeysHandedOut{Instance: id}, audit.DiagnosticsRead{Instance: id, Report: "log"})...)
	w.append(encoded[budget.Event](w, "budget", acc, budget.Codec.Encode, budgetEvents(id, at)...)...)
	spec := instance.Spec{ClientToken: canaryToken, Image: "ami", Type: "t3.large", Region: "r", UserData: canaryUserData, TokenKey: canaryToken}
	w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode,
		instance.Requested{Account: acc, Name: seal(acc, label(id), canaryName), Type: "t3.large", Region: "r"},
		instance.Renamed{Name: seal(acc, label(id), canaryName+"-2")},
		instance.LaunchAttempted{Attempt: 1, At: at, Spec: spec},
		instance.CallRefused{Call: instance.CallLaunch, Attempt: 1, Tries: 1, Verdict: instance.Another, Code: "NoCapacity", Reason: "No capacity.", RetryAt: at},
		instance.LaunchAttempted{Attempt: 2, At: at, Spec: spec},
		instance.MachineLaunched{Attempt: 2, Machine: "i-1", At: at},
		instance.EnrolmentEnded{Attempt: 2}, instance.EnrolmentReopened{Attempt: 2, At: at},
		instance.GuestEnrolled{Attempt: 2, PublicKey: []byte(canaryGuest)},
		instance.MachineRunning{Address: "203.0.113.1", At: at},
		instance.AddressChanged{Address: "203.0.113.2"},
		instance.PhaseReached{Boot: "b1", Phase: instance.PhaseInstalling, Detail: "XFCE", At: at},
		instance.VersionsReported{Boot: "b1", Versions: map[string]string{"os": "debian 13", "guest": "1"}, At: at},
		instance.BootStalled{Phase: instance.PhaseInstalling, Reason: "It takes long."},
		instance.PhaseReached{Boot: "b1", Phase: instance.PhaseReady, Detail: "all", At: at},
		instance.IdlePolicySet{Policy: &policy}, instance.ModelCostReported{Meter: "m1", Total: 250_000, Added: 250_000, At: at},
		instance.IdleWarned{At: at, StopAt: at, Cause: instance.CauseIdle, Why: "No input since 18:02."}, instance.IdleExtended{At: at, Until: at},
		instance.IdleWarned{At: at, StopAt: at, Cause: instance.CauseCeiling, Why: "Its user was last active at 18:02."}, instance.IdleWithdrawn{At: at},
		instance.StopRequested{At: at, Cause: instance.CauseIdle, Why: "No input since 18:02.", WakeAt: at, Jobs: idle.Wake, NextJob: at},
		instance.CallAccepted{Call: instance.CallStop, At: at}, instance.MachineStopped{Asked: true, RunEnded: instance.RunEnded{Ended: at, RanUntil: at}},
		instance.StartRequested{At: at, Cause: instance.CauseJob, Why: "A job is due."}, instance.CallAccepted{Call: instance.CallStart, At: at},
		instance.MachineRunning{Address: "203.0.113.3", At: at, Launched: at, RanUntil: at},
		instance.MachineMissed{At: at}, instance.MachineFound{},
		instance.MachineStopped{Asked: false}, instance.TerminationRequested{At: at}, instance.MachineGone{Asked: true, RunEnded: instance.RunEnded{Ended: at, RanUntil: at}}, instance.Terminated{})...)
	w.append(encoded[instance.Event](w, "instance", id+"-taken", instance.Codec.Encode,
		instance.TakenOver{Account: acc, Name: seal(acc, label(id+"-taken"), "taken"), Region: "r", Machine: "i-9", Address: "203.0.113.9", At: at, CreatedAt: at},
		instance.StopRequested{At: at}, instance.MachineStopped{Asked: true}, instance.StartRequested{At: at})...)
	w.append(encoded[instance.Event](w, "instance", id+"-failed", instance.Codec.Encode,
		instance.Requested{Account: acc, Name: seal(acc, label(id+"-failed"), "other"), Type: "t3.large", Region: "r"},
		instance.LaunchAbandoned{Code: "c", Reason: "Nothing worked."}, instance.Failed{Code: "c", Reason: "Nothing worked."})...)
}

// billingEvents are the events of a plan that is bought, is not paid, and ends beside one that the operator gave.
func billingEvents(acc string, at time.Time) []billing.Event {
	requested := billing.CheckoutRequested{Key: "checkout-1", Plan: billing.Pro, Price: "price_1", Success: canaryURL, Cancel: canaryURL, Expires: at.Add(time.Hour), At: at}
	sub := billing.Subscription{ID: "sub_1", Customer: "cus_" + acc, Status: billing.Active, Plan: billing.Pro, Price: "price_1", Created: at, PeriodStart: at, PeriodEnd: at.AddDate(0, 1, 0)}
	late := sub
	late.Status = billing.PastDue
	invoice := billing.Invoice{ID: "in_1", Customer: sub.Customer, Subscription: sub.ID, Status: "open", Currency: "usd", Due: 1900, PeriodStart: at, PeriodEnd: at.AddDate(0, 1, 0), Attempts: 1, NextAttempt: at.Add(72 * time.Hour), Created: at}
	paid := invoice
	paid.Status, paid.Paid, paid.NextAttempt = "paid", 1900, time.Time{}
	return []billing.Event{
		billing.PlanGranted{Plan: billing.Starter, Until: at.AddDate(0, 0, 7), Reason: "A week to try.", At: at},
		billing.AccessSet{Access: billing.Access{Level: billing.Full, Plan: billing.Starter, Desktops: 2, Types: billing.Starter.Types(), At: at}},
		billing.PlanWithdrawn{At: at},
		requested, billing.CheckoutLost{Key: "checkout-1", Reason: canaryToken, At: at},
		requested, billing.CheckoutSeen{Key: "checkout-1", Session: canaryToken, Status: billing.CheckoutOpen, At: at},
		billing.CheckoutSeen{Key: "checkout-1", Session: canaryToken, Status: billing.CheckoutComplete, Customer: sub.Customer, Subscription: sub.ID, At: at},
		billing.SubscriptionSeen{Subscription: sub, At: at}, billing.InvoiceSeen{Invoice: paid, At: at}, billing.SubscriptionSeen{Subscription: late, At: at}, billing.InvoiceSeen{Invoice: invoice, At: at},
		billing.AccessSet{Access: billing.Access{Level: billing.Due, Plan: billing.Pro, Desktops: 5, Types: billing.Pro.Types(), Reason: billing.PaymentFailed, StopAt: at.AddDate(0, 0, 7), At: at}},
		billing.UsageReported{Report: billing.Report{Identifier: acc + "-2030-01-01-1", Day: "2030-01-01", Seconds: 5400, Customer: sub.Customer, At: at}},
		billing.UsageSettled{Identifier: acc + "-2030-01-01-1", Day: "2030-01-01", Outcome: billing.Sent, At: at},
	}
}

// budgetEvents are the events of the account's budget and of a desktop's.
func budgetEvents(id string, at time.Time) []budget.Event {
	mark := budget.Mark{Scope: budget.Account, Period: budget.Day, Of: "2030-01-02", Limit: 2_000_000, Spent: 1_100_000, At: at}
	spent := budget.Mark{Scope: id, Period: budget.Month, Of: "2030-01", Limit: 10_000, Spent: 10_001, At: at}
	return []budget.Event{
		budget.LimitsSet{Scope: budget.Account, Day: 2_000_000, Month: 30_000_000}, budget.LimitsSet{Scope: id, Month: 10_000},
		budget.Warned{Mark: mark, Percent: 50}, budget.Reached{Mark: spent},
		budget.Released{Scope: id, Period: budget.Month, Of: "2030-01", Raised: true, At: at}, budget.ScopeEnded{Scope: id},
	}
}

// life draws a stream that instance.Decide would write, of commands in any order.
func life(t *rapid.T, acc, id string) (events []instance.Event) {
	var s instance.State
	now := began
	execute := func(c instance.Command) {
		more, err := instance.Decide(s, c)
		if err != nil {
			return
		}
		for _, e := range more {
			s = instance.Evolve(s, e)
		}
		events = append(events, more...)
	}
	if rapid.IntRange(0, 4).Draw(t, "opened by") == 0 {
		execute(instance.TakeOver{Account: acc, Name: seal(acc, label(id), "name"), Region: "r", Machine: "i-1", Address: "a", At: now, CreatedAt: now})
	} else {
		execute(instance.Request{Account: acc, Name: seal(acc, label(id), "name"), Type: "t", Region: "r"})
	}
	for range rapid.IntRange(0, 40).Draw(t, "commands") {
		now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "seconds")) * time.Second)
		attempt := s.Attempts
		n := rapid.IntRange(0, 30).Draw(t, "n")
		switch rapid.IntRange(0, 18).Draw(t, "command") {
		case 0:
			execute(instance.Rename{Name: seal(acc, label(id), fmt.Sprint("name ", n))})
		case 1:
			execute(instance.Stop{At: now})
		case 2:
			execute(instance.Start{At: now})
		case 3:
			if n < 4 {
				execute(instance.Terminate{At: now})
			}
			if n == 30 {
				execute(instance.Abandon{Code: "c", Reason: "R."})
			}
		case 4, 5:
			if n < 20 {
				execute(instance.Attempt{At: now})
			}
			if n > 10 {
				execute(instance.Launched{Attempt: s.Attempts, Machine: fmt.Sprint("m", s.Attempts), At: now})
			}
		case 6:
			calls := []instance.Call{instance.CallLaunch, instance.CallStart, instance.CallStop, instance.CallTerminate}
			verdicts := []instance.Verdict{instance.Again, instance.Another, instance.Never}
			execute(instance.Refuse{Call: calls[n%4], Attempt: attempt, Verdict: verdicts[n%3], Code: "c", Reason: fmt.Sprint("Reason ", n, "."), RetryAt: now})
		case 7:
			execute(instance.Accept{Call: []instance.Call{instance.CallStart, instance.CallStop, instance.CallTerminate}[n%3], At: now})
		case 8:
			execute(instance.Stall{Reason: "Slow."})
		case 9, 10, 11:
			seen := []instance.Seen{instance.SeenRunning, instance.SeenRunning, instance.SeenStopped, instance.SeenStopped, instance.SeenMissing, instance.SeenGone}
			execute(instance.Observe{Machine: s.Machine, Seen: seen[min(n/5, 5)], Address: fmt.Sprint("a", n%3), At: now})
		case 12:
			execute(instance.ReachPhase{Boot: fmt.Sprint("b", n%2), Phase: instance.Phases[n%7], Detail: fmt.Sprint("d", n), At: now})
			execute(instance.Enroll{Attempt: attempt, PublicKey: []byte("k"), At: now})
			execute(instance.ReportVersions{Boot: "b1", Versions: map[string]string{"guest": fmt.Sprint(n % 3)}, At: now})
		case 14, 16, 17, 18:
			execute(instance.Warn{At: now, StopAt: now.Add(time.Minute), Cause: instance.CauseIdle, Why: fmt.Sprint("Reason ", n, ".")})
			if n%5 == 3 {
				execute(instance.Withdraw{At: now})
			}
			if n%5 == 4 {
				execute(instance.Extend{At: now, Until: now.Add(time.Hour)})
			}
		case 15:
			policies := []*idle.Policy{nil, {After: 3600, Jobs: idle.Wake}, {After: 60, Warn: 9, Ceiling: 86400, KeepUntil: began, Jobs: idle.Sleep}}
			execute(instance.SetIdlePolicy{Policy: policies[n%3]})
			execute(instance.ReportModelCost{Meter: fmt.Sprint("m", n/16), Total: int64(n), At: now})
			if n < 12 {
				execute(instance.StopBecause{At: now, Cause: instance.CauseIdle, Why: fmt.Sprint("Why ", n, "."), WakeAt: now.Add(time.Hour), Jobs: idle.Wake, NextJob: now.Add(2 * time.Hour)})
			}
			if n > 15 {
				execute(instance.StartBecause{At: now, Cause: instance.CauseJob, Why: "A job is due."})
			}
		case 13:
			execute(instance.Conclude{})
			if n%2 == 0 && s.Open { // the guest speaks before the launch call returns
				execute(instance.ReachPhase{Boot: "b1", Phase: instance.Phases[n%7], Detail: "early", At: now})
				execute(instance.Launched{Attempt: s.Attempts, Machine: fmt.Sprint("m", s.Attempts), At: now})
			}
		}
	}
	return events
}
