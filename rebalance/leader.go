package rebalance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseName is the lease of whoever moves pods.
const leaseName = "tessera-rebalance"

var errDeposed = errors.New("losing the lease " + leaseName + ": another replica moves pods now")

// elected runs lead while this process holds the lease. Losing it is an error, which ends the process: whoever restarts
// it starts from a clean state.
func elected(client kubernetes.Interface, namespace string, lead func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("naming this replica: %w", err)
		}
		ended := make(chan error, 1)
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: leaseName},
				Client:     client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
			},
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) { ended <- lead(ctx) },
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			return fmt.Errorf("electing a leader: %w", err)
		}
		elector.Run(ctx)
		select {
		case <-ctx.Done():
			return nil
		default:
			return errors.Join(errDeposed, <-ended)
		}
	}
}
