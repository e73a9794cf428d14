package jetstream

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// MaxReplicas is what JetStream takes.
const MaxReplicas = 5

// clusterReplicas are asked for where the cluster's size is followed: any one server may go, and more
// copies would make each write slower.
const clusterReplicas = 3

// replicateEvery is how often what exists is compared with what it should be: a cluster's servers come
// up one after another, and another replica of ours may be an older program.
const replicateEvery = 30 * time.Second

// replicas says which numbers of replicas to try in turn for a stream that has so many, 0 where there is
// none yet. setting 0 follows the cluster, and never takes away what is there.
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

// inTurn calls do with these numbers until the cluster has room for one.
func inTurn(setting, have int, do func(replicas int) error) (err error) {
	for _, n := range replicas(setting, have) {
		if err = do(n); !tooFewServers(err) {
			return err
		}
	}
	return err
}

// tooFewServers tells that the cluster cannot keep so many replicas, now or ever.
func tooFewServers(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (tooLow[api.ErrorCode] || api.ErrorCode == noSuitablePeers)
}

// noSuitablePeers is what a cluster answers that is too small, or of which a server is down.
const noSuitablePeers = 10005
