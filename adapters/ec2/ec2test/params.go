package ec2test

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// params holds a call's parameters, by their flattened names: "Filter.1.Value.2".
type params url.Values

func (p params) get(name string) string { return url.Values(p).Get(name) }

// list returns the values name.1, name.2 …
func (p params) list(name string) (values []string) {
	for i := 1; ; i++ {
		v, ok := p[name+"."+strconv.Itoa(i)]
		if !ok {
			return values
		}
		values = append(values, v[0])
	}
}

// below returns the parameters below a prefix.
func (p params) below(prefix string) map[string]string {
	found := map[string]string{}
	for name, v := range p {
		if rest, ok := strings.CutPrefix(name, prefix+"."); ok {
			found[rest] = v[0]
		}
	}
	return found
}

func (p params) tags() map[string]map[string]string {
	all := map[string]map[string]string{}
	for i := 1; ; i++ {
		spec := "TagSpecification." + strconv.Itoa(i)
		kind := p.get(spec + ".ResourceType")
		if kind == "" {
			return all
		}
		all[kind] = map[string]string{}
		for j := 1; ; j++ {
			tag := spec + ".Tag." + strconv.Itoa(j)
			key := p.get(tag + ".Key")
			if key == "" {
				break
			}
			all[kind][key] = p.get(tag + ".Value")
		}
	}
}

type filter struct {
	name   string
	values []string
}

func (p params) filters() (list []filter) {
	for i := 1; ; i++ {
		at := "Filter." + strconv.Itoa(i)
		name := p.get(at + ".Name")
		if name == "" {
			return list
		}
		list = append(list, filter{name, p.list(at + ".Value")})
	}
}

// launch reads a RunInstances request and checks what EC2 checks before anything else.
func (p params) launch() (Launch, error) {
	l := Launch{
		ClientToken: p.get("ClientToken"), Image: p.get("ImageId"), Type: p.get("InstanceType"), Subnet: p.get("SubnetId"),
		SecurityGroups: p.list("SecurityGroupId"), KeyPair: p.get("KeyName"), Tags: p.tags(),
		Volume: p.below("BlockDeviceMapping.1"), Metadata: p.below("MetadataOptions"),
		Shutdown: cmp.Or(p.get("InstanceInitiatedShutdownBehavior"), "stop"),
	}
	data, err := base64.StdEncoding.DecodeString(p.get("UserData"))
	switch {
	case err != nil:
		return l, refuse("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")
	case len(data) > 16<<10:
		return l, refuse("InvalidParameterValue", "User data is limited to 16384 bytes")
	case len(l.ClientToken) > 64:
		return l, refuse("InvalidParameterValue", "The client token is longer than 64 characters")
	case p.get("MinCount") != "1" || p.get("MaxCount") != "1":
		return l, refuse("InvalidParameterValue", "only single instances are made here")
	case l.Image == "":
		return l, refuse("MissingParameter", "The request must contain the parameter ImageId")
	case !strings.HasPrefix(l.Image, "ami-"):
		return l, refuse("InvalidAMIID.Malformed", "Invalid id: %q", l.Image)
	case strings.Contains(l.Image, "missing"):
		return l, refuse("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", l.Image)
	}
	l.UserData, l.Digest = string(data), digest(p)
	return l, nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
