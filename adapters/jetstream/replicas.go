package jetstream

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// MaxReplicas is the largest number of replicas that JetStream accepts.
const MaxReplicas = 5

// clusterReplicas is the number of replicas in a cluster unless the operator sets one. Any one server may
// fail; more copies would make each write slower.
const clusterReplicas = 3

// replicateEvery is how often streams are compared with their settings: a cluster's servers start one
// after another, and another control-plane replica may run an older version.
const replicateEvery = 30 * time.Second

// replicas returns the numbers of replicas to try in turn for a stream that has some already; have is 0
// for a new stream. Setting 0 follows the cluster's size and never lowers the number.
func replicas(setting, have int) []int {
	switch {
	case setting > 0:
		return []int{setting}
	case have >= clusterReplicas:
		return []int{have}
	default:
		return []int{clusterReplicas, max(have, 1)}
	}
}

// inTurn calls do with these numbers until the cluster has enough servers for one.
func inTurn(setting, have int, do func(replicas int) error) (err error) {
	for _, n := range replicas(setting, have) {
		if err = do(n); !tooFewServers(err) {
			return err
		}
	}
	return err
}

// tooFewServers reports whether the cluster cannot keep so many replicas, now or permanently.
func tooFewServers(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (tooLow[api.ErrorCode] || api.ErrorCode == noSuitablePeers)
}

// noSuitablePeers is the error code of a cluster that is too small or has a server down.
const noSuitablePeers = 10005
