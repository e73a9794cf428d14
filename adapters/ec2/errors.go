package ec2

import (
	"errors"
	"net/http"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// row says how to treat an error code of EC2.
type row struct {
	verdict   instance.Verdict
	reason    string        // for the user
	wait      time.Duration // the least before the next try, jittered
	throttled bool          // slows the pace down
	full      bool          // the place has no capacity at present
	unsure    bool          // the call may have taken effect anyway
	operator  bool          // the operator must fix the account or the configuration
	clock     bool          // a clock that is briefly wrong also causes it; see doubt
}

// Sentences for users. None of them names anything in the operator's account.
const (
	saysFull      = "The cloud currently has no capacity for this instance type."
	saysLimit     = "The service has reached its limit of machines; the operator must raise it."
	saysBusy      = "The cloud is busy; retrying."
	saysTrouble   = "The cloud had an internal error; retrying."
	saysRights    = "The service lacks permissions in its cloud account; the operator must grant them."
	saysConfig    = "The service's cloud configuration is wrong; the operator must correct it."
	saysExpired   = "The service's access to the cloud has expired and is being renewed; retrying."
	saysClock     = "The cloud refused the service's credentials once, as it does when clocks differ; retrying."
	saysChanging  = "The machine is still changing state; retrying."
	saysUnknown   = "The cloud does not list the machine; retrying."
	saysMismatch  = "This launch was already made with other parameters."
	saysEnded     = "The machine was terminated before its launch was confirmed; retrying."
	saysNotStarts = "The cloud currently has no capacity to start this machine; retrying."
	saysUnclear   = "The cloud refused the request; the operator must check the server's log."
)

// table maps EC2's error codes. For a code that is not here, rowOf goes by its prefix and status.
var table = map[string]row{
	"InsufficientInstanceCapacity":           {verdict: instance.Another, reason: saysFull, full: true},
	"InsufficientHostCapacity":               {verdict: instance.Another, reason: saysFull, full: true},
	"InsufficientCapacity":                   {verdict: instance.Another, reason: saysFull, full: true},
	"InsufficientReservedInstanceCapacity":   {verdict: instance.Another, reason: saysFull, full: true},
	"InsufficientAddressCapacity":            {verdict: instance.Another, reason: saysFull, full: true},
	"InsufficientFreeAddressesInSubnet":      {verdict: instance.Another, reason: saysFull, full: true},
	"InsufficientVolumeCapacity":             {verdict: instance.Another, reason: saysFull, full: true},
	"SpotMaxPriceTooLow":                     {verdict: instance.Another, reason: saysFull, full: true},
	"MaxSpotInstanceCountExceeded":           {verdict: instance.Another, reason: saysLimit, full: true, operator: true},
	"InstanceLimitExceeded":                  {verdict: instance.Another, reason: saysLimit, full: true, operator: true},
	"VcpuLimitExceeded":                      {verdict: instance.Another, reason: saysLimit, full: true, operator: true},
	"VolumeLimitExceeded":                    {verdict: instance.Another, reason: saysLimit, full: true, operator: true},
	"MaxIOPSLimitExceeded":                   {verdict: instance.Another, reason: saysLimit, full: true, operator: true},
	"NetworkInterfaceLimitExceeded":          {verdict: instance.Another, reason: saysLimit, full: true, operator: true},
	"Unsupported":                            {verdict: instance.Another, reason: saysFull, full: true},
	"UnsupportedHostConfiguration":           {verdict: instance.Another, reason: saysFull, full: true},
	"InvalidSubnetID.NotFound":               {verdict: instance.Another, reason: saysConfig, full: true, operator: true},
	"RequestLimitExceeded":                   {verdict: instance.Again, reason: saysBusy, wait: 2 * time.Second, throttled: true},
	"Throttling":                             {verdict: instance.Again, reason: saysBusy, wait: 2 * time.Second, throttled: true},
	"ThrottlingException":                    {verdict: instance.Again, reason: saysBusy, wait: 2 * time.Second, throttled: true},
	"EC2ThrottledException":                  {verdict: instance.Again, reason: saysBusy, wait: 2 * time.Second, throttled: true},
	"ResourceCountExceeded":                  {verdict: instance.Again, reason: saysBusy, wait: 5 * time.Second, throttled: true},
	"InternalError":                          {verdict: instance.Again, reason: saysTrouble, unsure: true},
	"InternalFailure":                        {verdict: instance.Again, reason: saysTrouble, unsure: true},
	"ServerInternal":                         {verdict: instance.Again, reason: saysTrouble, unsure: true},
	"ServiceUnavailable":                     {verdict: instance.Again, reason: saysTrouble, unsure: true},
	"Unavailable":                            {verdict: instance.Again, reason: saysTrouble, unsure: true},
	"RequestTimeout":                         {verdict: instance.Again, reason: saysTrouble, unsure: true},
	"IncorrectInstanceState":                 {verdict: instance.Again, reason: saysChanging, wait: 5 * time.Second},
	"IncorrectState":                         {verdict: instance.Again, reason: saysChanging, wait: 5 * time.Second},
	"ConcurrentModification":                 {verdict: instance.Again, reason: saysChanging, wait: 2 * time.Second},
	"IdempotentInstanceTerminated":           {verdict: instance.Another, reason: saysEnded},
	"InvalidInstanceID.NotFound":             {verdict: instance.Again, reason: saysUnknown, wait: 10 * time.Second},
	"RequestTimeTooSkewed":                   {verdict: instance.Again, reason: saysClock, wait: 15 * time.Second, operator: true},
	"RequestExpired":                         {verdict: instance.Again, reason: saysClock, wait: 15 * time.Second, operator: true},
	"ExpiredToken":                           {verdict: instance.Again, reason: saysExpired, wait: 15 * time.Second, operator: true},
	"ExpiredTokenException":                  {verdict: instance.Again, reason: saysExpired, wait: 15 * time.Second, operator: true},
	"IdempotentParameterMismatch":            {verdict: instance.Again, reason: saysMismatch, wait: 10 * time.Second, operator: true},
	"UnauthorizedOperation":                  {verdict: instance.Never, reason: saysRights, operator: true},
	"AuthFailure":                            {verdict: instance.Never, reason: saysRights, operator: true, clock: true},
	"OptInRequired":                          {verdict: instance.Never, reason: saysRights, operator: true},
	"PendingVerification":                    {verdict: instance.Never, reason: saysRights, operator: true},
	"Blocked":                                {verdict: instance.Never, reason: saysRights, operator: true},
	"SignatureDoesNotMatch":                  {verdict: instance.Never, reason: saysRights, operator: true, clock: true},
	"InvalidSignature":                       {verdict: instance.Never, reason: saysRights, operator: true, clock: true},
	"InvalidSignatureException":              {verdict: instance.Never, reason: saysRights, operator: true, clock: true},
	"InvalidClientTokenId":                   {verdict: instance.Never, reason: saysRights, operator: true},
	"OperationNotPermitted":                  {verdict: instance.Never, reason: saysRights, operator: true},
	"InvalidBlockDeviceMapping":              {verdict: instance.Never, reason: saysConfig, operator: true},
	"EncryptedVolumesNotSupported":           {verdict: instance.Never, reason: saysConfig, operator: true},
	"InstanceTypeNotSupported":               {verdict: instance.Never, reason: saysConfig, operator: true},
	"VPCIdNotSpecified":                      {verdict: instance.Never, reason: saysConfig, operator: true},
	"DefaultVpcDoesNotExist":                 {verdict: instance.Never, reason: saysConfig, operator: true},
	"MissingParameter":                       {verdict: instance.Never, reason: saysConfig, operator: true},
	"UnknownParameter":                       {verdict: instance.Never, reason: saysConfig, operator: true},
	"UnsupportedOperation":                   {verdict: instance.Never, reason: saysUnclear, operator: true},
	"UnsupportedInstanceTypeOnDedicatedHost": {verdict: instance.Never, reason: saysConfig, operator: true},
}

// rowOf returns the row of an error that EC2 answered with: by its code or, if that is unknown, by its status.
func rowOf(code string, status int) row {
	if r, known := table[code]; known {
		return r
	}
	switch {
	case status == http.StatusTooManyRequests || strings.Contains(code, "Throttl"):
		return table["Throttling"]
	case status >= 500:
		return table["InternalError"]
	case strings.HasPrefix(code, "Insufficient"):
		return table["InsufficientInstanceCapacity"]
	case strings.HasPrefix(code, "Invalid"): // InvalidAMIID.NotFound, InvalidGroup.NotFound, InvalidKeyPair.NotFound, InvalidParameterValue …
		return row{verdict: instance.Never, reason: saysConfig, operator: true}
	}
	return row{verdict: instance.Never, reason: saysUnclear, operator: true}
}

// refusal turns EC2's error into the one that the saga decides on, and logs errors that only the operator can
// fix. An error that is no answer of EC2 is returned unchanged: the outcome of the call is unknown.
func (c *Cloud) refusal(call string, err error, about ...any) error {
	code, r, answered := answer(err)
	if !answered {
		return err
	}
	if r.operator {
		c.log.Error("EC2 call refused, operator action required", append([]any{"call", call, "code", code, "err", err}, about...)...)
	}
	return &machines.CallError{Verdict: r.verdict, Code: code, Reason: r.reason, RetryAfter: c.jittered(r.wait), Unsure: r.unsure, Err: err}
}

// answer returns the code that EC2 answered with, and whether it answered.
func answer(err error) (code string, r row, answered bool) {
	var api smithy.APIError
	var response *awshttp.ResponseError
	status := 0
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	switch {
	case errors.As(err, &api):
		code = api.ErrorCode()
		return code, rowOf(code, status), true
	case status >= 500: // a proxy's page, without a code
		return "InternalError", table["InternalError"], true
	}
	return "", row{}, false
}

// jittered returns d plus up to half of it.
func (c *Cloud) jittered(d time.Duration) time.Duration {
	if d == 0 {
		return 0
	}
	return d + c.cfg.Jitter(d/2)
}
