package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/adapters/assets"
	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/local"
	"github.com/cloudbot-ai/control-plane/adapters/s3"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

// ec2Config is what the environment says of machines on EC2. Credentials are the SDK's own affair.
type ec2Config struct {
	Region        string `env:"AWS_REGION"`
	Endpoint      string `env:"AWS_ENDPOINT_URL"`
	Image         string `env:"UBUNTU_AMI_ID"`
	SecurityGroup string `env:"EC2_SECURITY_GROUP_ID"`
	Subnets       string `env:"EC2_SUBNET_ID"`
	KeyPair       string `env:"EC2_KEY_PAIR_NAME"`
	VolumeGiB     int    `env:"EC2_VOLUME_GIB" envDefault:"40"`
	OpenClawURL   string `env:"MOLTBOT_TARBALL_URL"`
	OpenClawSum   string `env:"MOLTBOT_TARBALL_SHA256"`
}

// userData says what machines are told at their first boot, with what the assets offer.
func (c ec2Config) userData(url string, downloads func() (bootstrap.Downloads, error)) ec2.UserData {
	return ec2.UserData{ControlPlaneURL: url, OpenClawURL: c.OpenClawURL, OpenClawSHA256: c.OpenClawSum, Downloads: downloads}
}

// check refuses what cannot work, all of it at once.
func (c ec2Config) check(publicURL string, production bool) error {
	url := publicURL
	if badBaseURL(url) != "" {
		url = "" // is said already
	}
	errs := []error{c.userData(url, nil).Check(production)}
	switch {
	case c.Image == "" && production:
		errs = append(errs, errors.New("UBUNTU_AMI_ID is empty; give the machines' image"))
	case c.Image == "":
		errs = append(errs, errors.New("UBUNTU_AMI_ID is empty; give the machines' image, or set LOCAL_DEV_MODE=true"))
	}
	if publicURL == "" {
		errs = append(errs, errors.New("CONTROL_PLANE_URL is empty; machines on EC2 need a URL to dial home to"))
	}
	if c.VolumeGiB < 20 || c.VolumeGiB > 16384 {
		errs = append(errs, fmt.Errorf("EC2_VOLUME_GIB is %d; give 20 to 16384", c.VolumeGiB))
	}
	return errors.Join(errs...)
}

// cloud is where machines come from, with what keeps it going.
type cloud struct {
	machines.Cloud
	inventory machines.Inventory          // for the reconciler; nil: it has nothing to reconcile
	run       func(context.Context) error // nil: nothing to run

	pollEvery, sweepEvery time.Duration // how often it may be looked at
	policy                provisioning.Policy
}

// newLocalCloud makes machines out of processes.
func newLocalCloud(cfg local.Config) (cloud, error) {
	c, err := local.New(cfg)
	if err != nil {
		return cloud{}, err
	}
	return cloud{Cloud: c, run: c.Run, pollEvery: 100 * time.Millisecond, sweepEvery: 5 * time.Second}, nil
}

// openEC2 prepares the calls to EC2. environment names this database's machines among the account's;
// downloads returns what the assets offer; nil: this command launches nothing.
func openEC2(ctx context.Context, c ec2Config, environment, url string, downloads func() (bootstrap.Downloads, error), log *slog.Logger) (*ec2.Cloud, error) {
	return ec2.New(ctx, ec2.Config{
		Region: c.Region, Endpoint: c.Endpoint, Environment: environment, Image: c.Image, SecurityGroup: c.SecurityGroup,
		Subnets: fields(c.Subnets), KeyPair: c.KeyPair, VolumeGiB: c.VolumeGiB, UserData: c.userData(url, downloads).Render, Logger: log,
	})
}

// environmentID names a database's machines in the cloud account: the same for all its replicas,
// and another for every other database, whatever the environment is called.
func environmentID(name string, blind func(purpose, value string) string) string {
	return name + "-" + blind("cloud environment", "1")[:16]
}

// openCloud opens the cloud that LOCAL_DEV_MODE says.
func (p *parts) openCloud(ctx context.Context, url string, blind func(purpose, value string) string, files *assets.Handler) (cloud, error) {
	if !p.cfg.LocalDevMode {
		catalogue := assets.NewCatalogue(files, p.log)
		made, err := openEC2(ctx, p.cfg.EC2, environmentID(p.cfg.Environment, blind), url, catalogue.Known, p.log)
		if err != nil {
			return cloud{}, err
		}
		run := func(ctx context.Context) error { return together(ctx, made.Run, catalogue.Run) }
		return cloud{
			Cloud: made, inventory: made, run: run, pollEvery: time.Second, sweepEvery: time.Minute,
			policy: provisioning.Policy{Attempts: max(6, made.Attempts())}, // every place is asked once
		}, nil
	}
	guest, err := guestProgram()
	if err != nil {
		return cloud{}, err
	}
	return newLocalCloud(local.Config{Dir: p.cfg.machines(), GuestPath: guest, ControlPlaneURL: url, Logger: p.log})
}

// assets serves what machines download, from ASSETS_DIR, a folder or a bucket, and from beside this program.
func (p *parts) assets(ctx context.Context) (*assets.Handler, error) {
	var sources []assets.Source
	var kept assets.Keeper = assets.Folder{Dir: p.cfg.dir("guests")}
	if bucket, prefix, err := s3.Parse(p.cfg.AssetsDir); err == nil {
		source, err := s3.New(ctx, s3.Config{Bucket: bucket, Prefix: prefix, Region: p.cfg.EC2.Region, Logger: p.log})
		if err != nil {
			return nil, err
		}
		sources, kept = append(sources, source), source // replicas have the bucket in common, and no folder
	} else if p.cfg.AssetsDir != "" {
		sources = append(sources, assets.Folder{Dir: p.cfg.AssetsDir})
	}
	if guest, err := guestProgram(); err == nil {
		sources = append(sources, assets.Folder{
			Dir:   filepath.Dir(guest),
			Names: map[string]string{"cloudbot-guest-" + runtime.GOOS + "-" + runtime.GOARCH: filepath.Base(guest)},
		})
	}
	return assets.New(assets.Config{Sources: sources, Kept: kept, Logger: p.log}), nil
}

// sagaAndReconciler is what the saga's lease is for.
func (p *parts) sagaAndReconciler() func(context.Context) error {
	if p.cloud.inventory == nil {
		return p.saga.Run
	}
	return withReconciler(p.saga.Run, &provisioner.Reconciler{
		Log: p.saga.Log, Cloud: p.cloud.inventory, Live: p.saga.Live, Connected: p.hub.ConnectedAnywhere, Logger: p.log,
	})
}

// withReconciler lets the saga's lease carry the reconciler as well.
func withReconciler(saga func(context.Context) error, r *provisioner.Reconciler) func(context.Context) error {
	return func(ctx context.Context) error {
		return together(ctx, saga, r.Run)
	}
}

// together runs all of them, until one fails or all have ended.
func together(ctx context.Context, all ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range all {
		g.Go(crash.Guard(func() error { return f(ctx) }))
	}
	return g.Wait()
}
