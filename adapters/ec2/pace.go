package ec2

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"
)

// Pace bounds the calls to EC2 per second. Zero values mean the defaults in brackets. They are a part of the
// account's limits, which other programs share.
type Pace struct {
	Look float64 // Describe calls [10]
	Act  float64 // launches, starts, stops and terminations [2]
}

// pace is a token bucket that slows down after a throttled call, and recovers.
type pace struct {
	bucket *rate.Limiter

	mu   sync.Mutex
	most rate.Limit
}

func newPace(perSecond, fallback float64, burst int) *pace {
	most := rate.Limit(cmp.Or(perSecond, fallback))
	return &pace{bucket: rate.NewLimiter(most, burst), most: most}
}

func (p *pace) wait(ctx context.Context) error { return p.bucket.Wait(ctx) }

// heard adjusts the rate to a call's outcome: half after throttling, a tenth more after success.
func (p *pace) heard(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var api smithy.APIError
	now := p.bucket.Limit()
	switch {
	case err == nil && now < p.most:
		p.bucket.SetLimitAt(time.Now(), min(now+p.most/10, p.most))
	case errors.As(err, &api) && table[api.ErrorCode()].throttled:
		p.bucket.SetLimitAt(time.Now(), max(now/2, p.most/16))
	}
}
