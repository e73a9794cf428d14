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
		t.Fatalf("%+v", all)
	}
	for n := 1; n < len(all); n++ {
		if all[n].Progress < all[n-1].Progress {
			t.Errorf("%+v comes after %+v", all[n], all[n-1])
		}
	}
	if all[5].Phase != installing || all[5].Progress >= progress[desktopUp] {
		t.Errorf("%+v is ahead of its phase", all[5])
	}
}
