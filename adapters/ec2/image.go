package ec2

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Image describes the machines' image, as EC2 does.
type Image struct {
	Root    string // its name of the disk: "/dev/sda1", "/dev/xvda"
	DiskGiB int    // size of that disk in the image; a machine's cannot be smaller
	Arch    string // as EC2 names it: "x86_64", "arm64"
}

// settled is the result of the last look: the image, or why no machine can be made from it.
type settled struct {
	image Image
	unfit error
}

// Run looks the image up until it fits or ctx ends. It continues while the image does not fit, because the
// operator can fix that in AWS, for example by sharing the image with this account.
func (c *Cloud) Run(ctx context.Context) error {
	said := "" // the kind of the last error logged: the errors themselves differ by request id
	for backoff := (retry.Backoff{First: time.Second, Max: time.Minute}); ; {
		image, err := c.Settle(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			c.log.Info("machine image found", "image", c.cfg.Image, "root_device", image.Root, "disk_gib", image.DiskGiB, "architecture", image.Arch)
			return nil
		case kindOf(err) != said:
			said = kindOf(err)
			c.log.Error("machine image unusable, launches will fail", "image", c.cfg.Image, "err", err)
		}
		wait := backoff.Next()
		if retry.Sleep(ctx, wait+c.cfg.Jitter(wait/2)) != nil {
			return nil
		}
	}
}

func kindOf(err error) string {
	if code, _, answered := answer(err); answered {
		return code
	}
	return err.Error()
}

// Settle looks the image up once and keeps the result for launches. An error says what to do.
func (c *Cloud) Settle(ctx context.Context) (Image, error) {
	found, err := c.lookUp(ctx)
	if code, _, _ := answer(err); code == "UnauthorizedOperation" {
		c.image.Store(&settled{unfit: err}) // waiting does not help
	}
	if err != nil {
		return Image{}, err
	}
	image, err := c.fits(found)
	c.image.Store(&settled{image, err})
	return image, err
}

// lookUp returns EC2's description of the image, or nil if EC2 has no such image.
func (c *Cloud) lookUp(ctx context.Context) (*types.Image, error) {
	out, err := ask(ctx, c.look, c.api.DescribeImages, &ec2.DescribeImagesInput{ImageIds: []string{c.cfg.Image}})
	code, _, _ := answer(err)
	switch {
	case strings.HasPrefix(code, "InvalidAMIID"):
		return nil, nil
	case code == "UnauthorizedOperation":
		return nil, fmt.Errorf("look the image up: %w; grant this server ec2:DescribeImages (%s)", err, policy)
	case err != nil:
		return nil, fmt.Errorf("look the image up: %w", err)
	case len(out.Images) == 0:
		return nil, nil
	}
	return &out.Images[0], nil
}

// fits checks the image against the configuration of machines.
func (c *Cloud) fits(found *types.Image) (Image, error) {
	if found == nil {
		return Image{}, fmt.Errorf("EC2 has no image %s in %s: correct UBUNTU_AMI_ID or AWS_REGION, or share the image with this account", c.cfg.Image, c.cfg.Region)
	}
	i := Image{Root: aws.ToString(found.RootDeviceName), Arch: string(found.Architecture)}
	for _, m := range found.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) == i.Root && m.Ebs != nil {
			i.DiskGiB = int(aws.ToInt32(m.Ebs.VolumeSize))
		}
	}
	switch {
	case found.State != types.ImageStateAvailable:
		return i, fmt.Errorf("the image is %s: set UBUNTU_AMI_ID to another, or wait for it", found.State)
	case found.RootDeviceType != types.DeviceTypeEbs || i.Root == "":
		return i, fmt.Errorf("the image's root device is %s %q: set UBUNTU_AMI_ID to an image on EBS, because a stopped machine must keep its disk", found.RootDeviceType, i.Root)
	case i.DiskGiB > c.cfg.VolumeGiB:
		return i, fmt.Errorf("the image's disk has %d GiB and EC2_VOLUME_GIB is %d: raise it to %d or more", i.DiskGiB, c.cfg.VolumeGiB, i.DiskGiB)
	}
	for _, t := range c.cfg.Types {
		for _, id := range append([]string{t.ID}, t.Instead...) {
			if want := archOf(id); i.Arch != want {
				return i, fmt.Errorf("the image is for %s, and the offered type %s takes %s: set UBUNTU_AMI_ID to an image for that", i.Arch, id, want)
			}
		}
	}
	return i, nil
}

// arm matches types on Graviton, whose families have a g after their generation: t4g, m7gd, im4gn.
var arm = regexp.MustCompile(`^(a1|[a-z]+[0-9]+[a-z]*g[a-z]*)\.`)

func archOf(machineType string) string {
	if arm.MatchString(machineType) {
		return string(types.ArchitectureValuesArm64)
	}
	return string(types.ArchitectureValuesX8664)
}

// GuestArch returns the architecture of the image as Go names it; "": not known yet.
func (c *Cloud) GuestArch() string {
	s := c.image.Load()
	switch {
	case s == nil:
		return ""
	case s.image.Arch == string(types.ArchitectureValuesX8664):
		return "amd64"
	}
	return s.image.Arch
}

// frozen returns the image for a launch. While it has not been looked up, a later call may succeed.
func (c *Cloud) frozen() (Image, error) {
	s := c.image.Load()
	switch {
	case s == nil:
		return Image{}, errors.New("the machines' image has not been looked up yet")
	case s.unfit != nil:
		return Image{}, refused(instance.Never, "image_unfit", "The service cannot use its machines' image; the operator must check it.", s.unfit)
	}
	return s.image, nil
}
