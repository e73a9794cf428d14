package ec2test

import (
	"cmp"
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Image describes a machine image, as answers do.
type Image struct {
	Arch   string // "": x86_64
	Root   string // its name of the disk; "": /dev/sda1
	GiB    int    // of the disk; 0: 8
	Device string // root device type; "": ebs
	State  string // "": available
}

// looks holds the resources that clients can only look at. Images, subnets, groups and key pairs exist unless
// "missing" is in their name. No chance is drawn for these calls; only Script makes them fail.
type looks struct {
	images map[string]Image
	open   map[string]bool // security groups with an inbound rule
}

// SetImage describes an image. Any other image is like Ubuntu's.
func (s *Server) SetImage(id string, i Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looks.images == nil {
		s.looks.images = map[string]Image{}
	}
	s.looks.images[id] = i
}

// SetOpen gives a security group an inbound rule.
func (s *Server) SetOpen(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks.open = map[string]bool{group: true}
}

// harmless reports whether a call has no effect in any case: a look, or a dry run of a launch.
func harmless(action string, p params) bool {
	return kinds[action].id != "" || action == actRun && p.get("DryRun") == "true"
}

// kinds lists the resources to look at: the names of their ids in requests and answers, and the error of a missing one.
var kinds = map[string]struct{ param, id, set, missing string }{
	"DescribeImages":         {"ImageId", "imageId", "imagesSet", "InvalidAMIID.NotFound"},
	"DescribeSubnets":        {"SubnetId", "subnetId", "subnetSet", "InvalidSubnetID.NotFound"},
	"DescribeSecurityGroups": {"GroupId", "groupId", "securityGroupInfo", "InvalidGroup.NotFound"},
	"DescribeKeyPairs":       {"KeyName", "keyName", "keySet", "InvalidKeyPair.NotFound"},
}

// tryOut answers a harmless call.
func (s *Server) tryOut(action string, p params) outcome {
	if list := s.script[action]; len(list) > 0 {
		f := list[0]
		s.script[action] = list[1:]
		out := outcome{cut: f.Cut, hang: f.Hang, took: f.Took}
		if f.Code != "" {
			out = answer(nil, &refusal{cmp.Or(f.Status, http.StatusBadRequest), f.Code, "as planned"})
		}
		return out
	}
	if action == actRun {
		if _, err := p.launch(); err != nil {
			return answer(nil, err)
		}
		return answer(nil, &refusal{http.StatusPreconditionFailed, "DryRunOperation", "Request would have succeeded, but DryRun flag is set."})
	}
	kind := kinds[action]
	ids := p.list(kind.param)
	if i := slices.IndexFunc(ids, func(id string) bool { return strings.Contains(id, "missing") }); i >= 0 {
		return answer(nil, refuse(kind.missing, "The id '%s' does not exist", ids[i]))
	}
	var items []element
	for _, id := range ids {
		item := node("item", leaf(kind.id, id))
		switch action {
		case "DescribeImages":
			item.Below = append(item.Below, s.looks.images[id].xml()...)
		case "DescribeSubnets":
			item.Below = append(item.Below, leaf("availableIpAddressCount", "250"), leaf("vpcId", "vpc-1"))
		case "DescribeSecurityGroups":
			if item.Below = append(item.Below, leaf("vpcId", "vpc-1")); s.looks.open[id] {
				item.Below = append(item.Below, node("ipPermissions", node("item", leaf("ipProtocol", "tcp"), leaf("fromPort", "22"), leaf("toPort", "22"))))
			}
		}
		items = append(items, item)
	}
	reply := node(action+"Response", leaf("requestId", "ec2test"), node(kind.set, items...))
	reply.XMLName.Space = space
	return answer(reply, nil)
}

func (i Image) xml() []element {
	root := cmp.Or(i.Root, "/dev/sda1")
	return []element{
		leaf("imageState", cmp.Or(i.State, "available")), leaf("architecture", cmp.Or(i.Arch, "x86_64")),
		leaf("rootDeviceType", cmp.Or(i.Device, "ebs")), leaf("rootDeviceName", root),
		node("blockDeviceMapping",
			node("item", leaf("deviceName", "/dev/sdb"), leaf("virtualName", "ephemeral0")),
			node("item", leaf("deviceName", root), node("ebs", leaf("volumeSize", strconv.Itoa(cmp.Or(i.GiB, 8)))))),
	}
}

// element is an element of an answer.
type element struct {
	XMLName xml.Name
	Text    string    `xml:",chardata"`
	Below   []element `xml:",any"`
}

func leaf(name, text string) element { return element{XMLName: xml.Name{Local: name}, Text: text} }

func node(name string, below ...element) element {
	return element{XMLName: xml.Name{Local: name}, Below: below}
}
