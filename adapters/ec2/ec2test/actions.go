package ec2test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"strings"
	"time"
)

func (s *Server) act(action string, p params) (any, error) {
	switch action {
	case actRun:
		return s.run(p)
	case actDescribe:
		return s.describe(p)
	}
	return s.change(action, p, false)
}

// idle answers as if the call had taken effect.
func (s *Server) idle(action string, p params) (any, error) { return s.change(action, p, true) }

// run launches. A used client token returns its machine again and needs no capacity; with other parameters, or
// after its machine was terminated, it is refused.
func (s *Server) run(p params) (any, error) {
	l, err := p.launch()
	if err != nil {
		return nil, err
	}
	if m := s.tokens[l.ClientToken]; m != nil && l.ClientToken != "" {
		if m.launch.Digest != l.Digest {
			s.wrongs = append(s.wrongs, "IdempotentParameterMismatch of "+l.ClientToken)
			return nil, refuse("IdempotentParameterMismatch", "The client token you have provided is already being used for a request with other parameters.")
		}
		if m.state == Terminated {
			return nil, refuse("IdempotentInstanceTerminated", "The client token you have provided was used to launch an instance that has been terminated.")
		}
		return s.reservation(m), nil
	}
	if s.full[[2]string{l.Type, l.Subnet}] {
		return nil, &refusal{500, "InsufficientInstanceCapacity", "We currently do not have sufficient " + l.Type + " capacity in the Availability Zone you requested."}
	}
	m := s.add(l)
	if l.ClientToken != "" {
		s.tokens[l.ClientToken] = m
	}
	if s.rand("dies").IntN(1000) < s.plan.Dies {
		s.faults["dies"]++
		m.state, m.next, m.reason = Pending, Terminated, "Server.InternalError"
	}
	s.enter(Entry{Action: actRun, Machine: m.id, Launch: &m.launch})
	return s.reservation(m), nil
}

func (s *Server) reservation(m *machine) any {
	return xmlRun{Space: space, RequestID: "ec2test", ReservationID: "r-" + m.id[2:], OwnerID: "000000000000", Instances: []xmlInstance{s.xml(m, m.view())}}
}

// digest returns a digest of all that EC2 compares.
func digest(p params) string {
	h := sha256.New()
	for _, name := range sorted(p) {
		fmt.Fprintf(h, "%s=%s\n", name, strings.Join(p[name], ","))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// allowed maps the states that each action accepts to the states it leads to; "": no change.
var allowed = map[string]map[State]State{
	actStart:     {Stopped: Pending, Running: "", Pending: ""},
	actStop:      {Running: Stopping, Stopping: "", Stopped: ""},
	actTerminate: {Pending: ShuttingDown, Running: ShuttingDown, Stopping: ShuttingDown, Stopped: ShuttingDown, ShuttingDown: "", Terminated: ""},
}

// change starts, stops or terminates machines.
func (s *Server) change(action string, p params, idle bool) (any, error) {
	reply := xmlChanges{XMLName: xml.Name{Local: action + "Response"}, Space: space, RequestID: "ec2test"}
	ids := p.list("InstanceId")
	if len(ids) == 0 {
		return nil, refuse("MissingParameter", "The request must contain the parameter InstanceId")
	}
	for _, id := range ids {
		m := s.machines[id]
		if m == nil || !s.visible(m) {
			return nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
		to, ok := allowed[action][m.state]
		if !ok {
			return nil, refuse("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be changed", id)
		}
		if action == actStart && to != "" && s.full[[2]string{m.launch.Type, m.launch.Subnet}] {
			return nil, &refusal{500, "InsufficientInstanceCapacity", "Insufficient capacity."}
		}
		was := m.state
		if p.get("Force") == "true" && m.stuck && !idle {
			m.stuck, m.changes = false, time.Now()
		}
		if to != "" && !idle {
			s.become(m, to)
			if action != actStart {
				s.asked(m)
			}
			if action == actStart && s.rand("undone").IntN(1000) < s.plan.Undone {
				s.faults["undone"]++
				m.next, m.reason = Stopped, "Client.InternalError"
			}
			if action == actTerminate {
				m.reason = "Client.UserInitiatedShutdown"
			}
			s.enter(Entry{Action: action, Machine: id})
		}
		now := m.state
		if idle && to != "" {
			now = to
		}
		reply.Changes = append(reply.Changes, xmlChange{id, state(now), state(was)})
	}
	return reply, nil
}

type xmlErrors struct {
	XMLName   xml.Name   `xml:"Response"`
	Errors    []xmlError `xml:"Errors>Error"`
	RequestID string     `xml:"RequestID"`
}

type xmlError struct {
	Code    string `xml:"Code"`
	Message string `xml:"Message"`
}

type xmlState struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

func state(s State) xmlState { return xmlState{codes[s], string(s)} }

type xmlChanges struct {
	XMLName   xml.Name
	Space     string      `xml:"xmlns,attr"`
	RequestID string      `xml:"requestId"`
	Changes   []xmlChange `xml:"instancesSet>item"`
}

type xmlChange struct {
	ID  string   `xml:"instanceId"`
	Now xmlState `xml:"currentState"`
	Was xmlState `xml:"previousState"`
}

type xmlRun struct {
	XMLName       xml.Name      `xml:"RunInstancesResponse"`
	Space         string        `xml:"xmlns,attr"`
	RequestID     string        `xml:"requestId"`
	ReservationID string        `xml:"reservationId"`
	OwnerID       string        `xml:"ownerId"`
	Instances     []xmlInstance `xml:"instancesSet>item"`
}
