package guest

import "testing"

func TestProgressWithinAPhaseGoesForward(t *testing.T) {
	t.Parallel()
	p := newPhases()
	p.say("too early", 10)
	p.reach(booting, "")
	p.reach(installing, "")
	for _, percent := range []int{0, 30, 10, 100} {
		p.say("installing", percent)
	}
	p.reach(desktopUp, "")
	p.say("node", 50)
	p.reach(agentUp, "")
	p.reach(ready, "")
	p.say("too late", 100)
	all, _ := p.after(0)
	if len(all) != 10 || p.present() != ready || p.detail() != "" {
		t.Fatalf("got %+v, want len(all) 10, p.present() %v and p.detail() \"\"", all, ready)
	}
	for n := 1; n < len(all); n++ {
		if all[n].Progress < all[n-1].Progress {
			t.Errorf("%+v comes after %+v, want at least %v", all[n], all[n-1], all[n-1].Progress)
		}
	}
	if all[5].Phase != installing || all[5].Progress >= progress[desktopUp] {
		t.Errorf("%+v is ahead of its phase, want all[5].Phase %v and all[5].Progress less than %v", all[5], installing, progress[desktopUp])
	}
}
