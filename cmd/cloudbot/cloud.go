package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/assets"
	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/local"
	"github.com/cloudbot-ai/control-plane/adapters/s3"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

// ec2Config is the settings for machines on EC2. The AWS SDK reads credentials itself.
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
	Sudo          string `env:"DESKTOP_SUDO" envDefault:"on"`
}

// userData is what machines get for their first boot: the settings, and what the assets offer.
func (c ec2Config) userData(url string, downloads func() (bootstrap.Downloads, error)) ec2.UserData {
	return ec2.UserData{ControlPlaneURL: url, OpenClawURL: c.OpenClawURL, OpenClawSHA256: c.OpenClawSum, NoSudo: c.Sudo == "off", Downloads: downloads}
}

// check returns all settings that cannot work.
func (c ec2Config) check(publicURL string, production bool) error {
	url := publicURL
	if badBaseURL(url) != "" {
		url = "" // reported elsewhere
	}
	errs := []error{c.userData(url, nil).Check(production)}
	switch {
	case c.Image == "" && production:
		errs = append(errs, errors.New("UBUNTU_AMI_ID is empty; set it to the machines' image"))
	case c.Image == "":
		errs = append(errs, errors.New("UBUNTU_AMI_ID is empty; set it to the machines' image, or set LOCAL_DEV_MODE=true"))
	}
	if publicURL == "" {
		errs = append(errs, errors.New("CONTROL_PLANE_URL is empty; machines on EC2 need a URL to connect to"))
	}
	if c.VolumeGiB < 20 || c.VolumeGiB > 16384 {
		errs = append(errs, fmt.Errorf("EC2_VOLUME_GIB is %d; use 20 to 16384", c.VolumeGiB))
	}
	if c.Sudo != "on" && c.Sudo != "off" {
		errs = append(errs, fmt.Errorf("DESKTOP_SUDO is %q; choose on or off", c.Sudo))
	}
	return errors.Join(errs...)
}

// cloud is where machines come from, and what keeps it up to date.
type cloud struct {
	machines.Cloud
	runner                       // keeps the machines up to date, or what is known about them
	inventory machines.Inventory // for the reconciler; nil: it has nothing to reconcile

	pollEvery, sweepEvery time.Duration // how often machines are checked: those that are changing, and all
	policy                provisioning.Policy
}

// newLocalCloud returns the cloud whose machines are processes on this computer.
func newLocalCloud(cfg local.Config) (cloud, error) {
	c, err := local.New(cfg)
	if err != nil {
		return cloud{}, err
	}
	return cloud{Cloud: c, runner: c, pollEvery: 100 * time.Millisecond, sweepEvery: 5 * time.Second}, nil
}

// openEC2 prepares the calls to EC2. environment is the tag of this database's machines in the AWS account. downloads
// returns what the assets offer; nil: the caller launches nothing.
func openEC2(ctx context.Context, c ec2Config, environment, url string, downloads func() (bootstrap.Downloads, error), log *slog.Logger) (*ec2.Cloud, error) {
	return ec2.New(ctx, ec2.Config{
		Region: c.Region, Endpoint: c.Endpoint, Environment: environment, Image: c.Image, SecurityGroup: c.SecurityGroup,
		Subnets: fields(c.Subnets), KeyPair: c.KeyPair, VolumeGiB: c.VolumeGiB, UserData: c.userData(url, downloads).Render, Logger: log,
	})
}

// environmentID returns the tag of a database's machines in the cloud account. It is the same for all replicas, and
// different for every other database, even if both environments have the same name.
func environmentID(name string, blind func(purpose, value string) string) string {
	return name + "-" + blind("cloud environment", "1")[:16]
}

// openCloud opens the cloud that LOCAL_DEV_MODE selects.
func openCloud(ctx context.Context, cfg config, url string, blind func(purpose, value string) string, files *assets.Handler, log *slog.Logger) (cloud, error) {
	if !cfg.LocalDevMode {
		catalogue := assets.NewCatalogue(files, log)
		made, err := openEC2(ctx, cfg.EC2, environmentID(cfg.Environment, blind), url, catalogue.Known, log)
		if err != nil {
			return cloud{}, err
		}
		return cloud{
			Cloud: made, inventory: made, runner: together{made, catalogue}, pollEvery: time.Second, sweepEvery: time.Minute,
			policy: provisioning.Policy{Attempts: max(6, made.Attempts())}, // every place is tried once
		}, nil
	}
	guest, err := guestProgram()
	if err != nil {
		return cloud{}, err
	}
	if _, err := cfg.findAgent(); err != nil && cfg.LocalAgent != "" {
		return cloud{}, err
	}
	return newLocalCloud(local.Config{Dir: cfg.machines(), GuestPath: guest, ControlPlaneURL: url, Agent: cfg.agentOfMachines(log), Logger: log})
}

// openAssets serves what machines download: from ASSETS_DIR, a folder or a bucket, and from beside this program.
func openAssets(ctx context.Context, cfg config, log *slog.Logger) (*assets.Handler, error) {
	var sources []assets.Source
	var kept assets.Keeper = assets.Folder{Dir: cfg.dir("guests")}
	if bucket, prefix, err := s3.Parse(cfg.AssetsDir); err == nil {
		source, err := s3.New(ctx, s3.Config{Bucket: bucket, Prefix: prefix, Region: cfg.EC2.Region, Logger: log})
		if err != nil {
			return nil, err
		}
		sources, kept = append(sources, source), source // replicas share the bucket, but no folder
	} else if cfg.AssetsDir != "" {
		sources = append(sources, assets.Folder{Dir: cfg.AssetsDir})
	}
	if guest, err := guestProgram(); err == nil {
		sources = append(sources, assets.Folder{
			Dir:   filepath.Dir(guest),
			Names: map[string]string{"cloudbot-guest-" + runtime.GOOS + "-" + runtime.GOARCH: filepath.Base(guest)},
		})
	}
	return assets.New(assets.Config{Sources: sources, Kept: kept, Logger: log}), nil
}
