package ec2test

import (
	"encoding/base64"
	"encoding/xml"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// describe answers with the machines that pass every filter, in pages if the request asks for them.
func (s *Server) describe(p params) (any, error) {
	ids, filters := p.list("InstanceId"), p.filters()
	for _, id := range ids {
		if m := s.machines[id]; m == nil || !s.visible(m) {
			return nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
	}
	size := 0
	if text := p.get("MaxResults"); text != "" {
		var err error
		if size, err = strconv.Atoi(text); err != nil || size < 5 || size > 1000 {
			return nil, refuse("InvalidParameterValue", "Value ( %s ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.", text)
		}
		if len(ids) > 0 {
			return nil, refuse("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
		}
	}
	after, err := base64.URLEncoding.DecodeString(p.get("NextToken"))
	if err != nil {
		return nil, refuse("InvalidNextToken", "The token is not valid")
	}
	reply := xmlDescribe{Space: space, RequestID: "ec2test"}
	for _, id := range sorted(s.machines) {
		m := s.machines[id]
		if id <= string(after) || !s.visible(m) || s.overlooked(m) || len(ids) > 0 && !slices.Contains(ids, id) {
			continue
		}
		shown := m.reported()
		pass := true
		for _, f := range filters {
			if len(f.values) > 200 {
				return nil, refuse("FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200")
			}
			match, known := m.matches(f, shown.state)
			if !known {
				return nil, refuse("InvalidParameterValue", "The filter '%s' is invalid", f.name)
			}
			pass = pass && match
		}
		if !pass {
			continue
		}
		if size > 0 && len(reply.Reservations) == size {
			reply.NextToken = base64.URLEncoding.EncodeToString([]byte(reply.Reservations[size-1].Instances[0].ID))
			break
		}
		reply.Reservations = append(reply.Reservations, xmlReservation{"r-" + id[2:], "000000000000", []xmlInstance{s.xml(m, shown)}})
	}
	return reply, nil
}

// overlooked reports whether an answer leaves out a machine that earlier answers included.
func (s *Server) overlooked(m *machine) bool {
	if s.plan.Unseen == 0 || s.rand("unseen "+m.id).IntN(1000) >= s.plan.Unseen {
		return false
	}
	s.faults["unseen"]++
	return true
}

func (m *machine) matches(f filter, state State) (match, known bool) {
	tags := m.launch.Tags["instance"]
	var value string
	tag, isTag := strings.CutPrefix(f.name, "tag:")
	switch {
	case isTag:
		v, ok := tags[tag]
		if !ok {
			return false, true
		}
		value = v
	case f.name == "tag-key":
		return slices.ContainsFunc(f.values, func(key string) bool { _, ok := tags[key]; return ok }), true
	case f.name == "instance-id":
		value = m.id
	case f.name == "instance-state-name":
		value = string(state)
	case f.name == "client-token":
		value = m.launch.ClientToken
	default:
		return false, false
	}
	return slices.ContainsFunc(f.values, func(pattern string) bool {
		ok, err := path.Match(strings.ReplaceAll(pattern, "[", `\[`), value)
		return ok && err == nil
	}), true
}

// stamp is the layout of a launch time. EC2 gives whole seconds.
const stamp = "2006-01-02T15:04:05.000Z"

func (s *Server) xml(m *machine, shown view) xmlInstance {
	x := xmlInstance{
		ID: m.id, Image: m.launch.Image, State: state(shown.state), Type: m.launch.Type, KeyPair: m.launch.KeyPair,
		LaunchTime: shown.launched.Add(s.ahead).UTC().Truncate(time.Second).Format(stamp), Subnet: m.launch.Subnet, ClientToken: m.launch.ClientToken,
		Address: shown.address, Why: shown.why,
	}
	if shown.state == Terminated || shown.state == Stopped {
		x.Reason = &xmlReason{m.reason, m.reason + ": as it happened"}
		if m.reason == "" {
			x.Reason = nil
		}
	}
	for _, key := range sorted(m.launch.Tags["instance"]) {
		x.Tags = append(x.Tags, xmlTag{key, m.launch.Tags["instance"][key]})
	}
	return x
}

type xmlDescribe struct {
	XMLName      xml.Name         `xml:"DescribeInstancesResponse"`
	Space        string           `xml:"xmlns,attr"`
	RequestID    string           `xml:"requestId"`
	Reservations []xmlReservation `xml:"reservationSet>item"`
	NextToken    string           `xml:"nextToken,omitempty"`
}

type xmlReservation struct {
	ID        string        `xml:"reservationId"`
	Owner     string        `xml:"ownerId"`
	Instances []xmlInstance `xml:"instancesSet>item"`
}

type xmlInstance struct {
	ID          string     `xml:"instanceId"`
	Image       string     `xml:"imageId"`
	State       xmlState   `xml:"instanceState"`
	Type        string     `xml:"instanceType"`
	KeyPair     string     `xml:"keyName,omitempty"`
	LaunchTime  string     `xml:"launchTime"`
	Subnet      string     `xml:"subnetId,omitempty"`
	ClientToken string     `xml:"clientToken,omitempty"`
	Address     string     `xml:"ipAddress,omitempty"`
	Why         string     `xml:"reason"`
	Reason      *xmlReason `xml:"stateReason,omitempty"`
	Tags        []xmlTag   `xml:"tagSet>item"`
}

type xmlReason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type xmlTag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}
