package httpapi

import (
	"encoding/json"
	"maps"
	"strconv"
	"time"
)

// json returns the same bytes as an Encoder of encoding/json, which takes five times as long. A test compares them.
func (v *listView) json() ([]byte, error) {
	w := jsonText{b: make([]byte, 0, 256+1150*len(v.Instances))}
	w.raw(`{"instances":[`)
	for n := range v.Instances {
		if n > 0 {
			w.raw(`,`)
		}
		w.instance(&v.Instances[n])
	}
	w.textOrNull(`],"next_cursor":`, v.Next)
	w.number(`,"quota":{"held":`, v.Quota.Held)
	w.number(`,"limit":`, v.Quota.Limit)
	w.raw("}}\n")
	return w.b, w.err
}

// jsonText is the beginning of a text in JSON. Its methods append the text before a value, which has the value's name, and the
// value.
type jsonText struct {
	b        []byte
	err      error
	versions map[string]string // the latest, which most instances share
	encoded  []byte
}

func (w *jsonText) instance(v *instanceView) {
	w.text(`{"id":`, v.ID)
	w.text(`,"name":`, v.Name)
	w.text(`,"status":`, string(v.Status))
	w.text(`,"phase":`, string(v.Phase))
	w.textOrNull(`,"phase_detail":`, v.PhaseDetail)
	w.time(`,"phase_since":`, v.PhaseSince)
	w.number(`,"progress":`, v.Progress)
	w.bool(`,"ready":`, v.Ready)
	w.textOrNull(`,"status_reason":`, v.StatusReason)
	w.text(`,"instance_type":`, v.Type)
	w.text(`,"region":`, v.Region)
	w.textOrNull(`,"public_ip":`, v.PublicIP)
	w.textOrNull(`,"ec2_instance_id":`, v.Machine)
	w.number(`,"vnc_port":`, v.VNCPort)
	w.number(`,"cloudbot_port":`, v.CloudbotPort)
	w.time(`,"created_at":`, v.CreatedAt)
	w.time(`,"updated_at":`, v.UpdatedAt)
	if w.encoded == nil || (v.Versions == nil) != (w.versions == nil) || !maps.Equal(v.Versions, w.versions) {
		w.versions, w.encoded = v.Versions, w.marshal(v.Versions)
	}
	w.raw(`,"versions":`)
	w.b = append(w.b, w.encoded...)
	if w.raw(`,"agent_state":`); v.AgentState == nil {
		w.raw(`null`)
	} else {
		w.b = append(w.b, w.marshal(v.AgentState)...) // few desktops have one
	}
	w.cost(v.Cost)
	w.idle(v.Idle)
	w.raw(`}`)
}

func (w *jsonText) cost(v *costView) {
	if w.raw(`,"cost":`); v == nil {
		w.raw(`null`)
		return
	}
	w.numberOrNull(`{"hourly_micros":`, v.Hourly)
	w.numberOrNull(`,"disk_monthly_micros":`, v.DiskMonthly)
	w.numberOrNull(`,"run_seconds":`, &v.RunSeconds)
	w.numberOrNull(`,"run_micros":`, &v.RunMicros)
	w.numberOrNull(`,"month_micros":`, v.MonthMicros)
	w.bool(`,"priced":`, v.Priced)
	w.raw(`}`)
}

func (w *jsonText) idle(v *idleView) {
	if w.raw(`,"idle":`); v == nil {
		w.raw(`null`)
		return
	}
	w.numberOrNull(`{"policy":{"after_s":`, &v.Policy.After)
	w.numberOrNull(`,"warn_s":`, &v.Policy.Warn)
	w.numberOrNull(`,"ceiling_s":`, &v.Policy.Ceiling)
	if !v.Policy.KeepUntil.IsZero() {
		w.time(`,"keep_until":`, v.Policy.KeepUntil)
	}
	w.text(`,"jobs":`, string(v.Policy.Jobs))
	w.bool(`},"own_policy":`, v.OwnPolicy)
	w.text(`,"state":`, string(v.State))
	w.timeOrNull(`,"last_used_at":`, v.LastUsedAt)
	w.timeOrNull(`,"last_agent_at":`, v.LastAgentAt)
	w.timeOrNull(`,"warn_at":`, v.WarnAt)
	w.timeOrNull(`,"stop_at":`, v.StopAt)
	w.textOrNull(`,"cause":`, (*string)(v.Cause))
	if w.raw(`,"warning":`); v.Warning == nil {
		w.raw(`null`)
	} else {
		w.b = append(w.b, w.marshal(v.Warning)...)
	}
	w.timeOrNull(`,"extended_until":`, v.ExtendedUntil)
	w.timeOrNull(`,"next_job_at":`, v.NextJobAt)
	w.timeOrNull(`,"wake_at":`, v.WakeAt)
	w.textOrNull(`,"stopped_why":`, v.StoppedWhy)
	w.raw(`}`)
}

func (w *jsonText) raw(text string) { w.b = append(w.b, text...) }

func (w *jsonText) marshal(v any) []byte {
	text, err := json.Marshal(v)
	w.fail(err)
	return text
}

func (w *jsonText) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *jsonText) text(before, value string) {
	w.raw(before)
	for n := range len(value) {
		if c := value[n]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			w.b = append(w.b, w.marshal(value)...)
			return
		}
	}
	w.b = append(append(append(w.b, '"'), value...), '"')
}

func (w *jsonText) textOrNull(before string, value *string) {
	if value == nil {
		w.raw(before)
		w.raw(`null`)
		return
	}
	w.text(before, *value)
}

func (w *jsonText) number(before string, value int) {
	w.raw(before)
	w.b = strconv.AppendInt(w.b, int64(value), 10)
}

func (w *jsonText) numberOrNull(before string, value *int64) {
	if w.raw(before); value == nil {
		w.raw(`null`)
		return
	}
	w.b = strconv.AppendInt(w.b, *value, 10)
}

func (w *jsonText) bool(before string, value bool) {
	w.raw(before)
	w.b = strconv.AppendBool(w.b, value)
}

func (w *jsonText) time(before string, value time.Time) {
	w.raw(before)
	var err error
	w.raw(`"`)
	w.b, err = value.AppendText(w.b)
	w.raw(`"`)
	w.fail(err)
}

func (w *jsonText) timeOrNull(before string, value *time.Time) {
	if value == nil {
		w.raw(before)
		w.raw(`null`)
		return
	}
	w.time(before, *value)
}
