// Package mail sends mails through SES, and keeps them while their configuration set is stopped.
package mail

import (
	"context"
	"errors"
	"log"
	"math/rand"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/smithy-go"
)

const (
	firstWait   = 5 * time.Minute
	longestWait = 30 * time.Minute
)

// Outbox is your durable queue.
type Outbox interface {
	// Sent removes a mail from the queue.
	Sent(ctx context.Context, mail *sesv2.SendEmailInput, messageID string) error
	// Keep leaves a mail in the queue, to be sent again at this time or later.
	Keep(ctx context.Context, mail *sesv2.SendEmailInput, notBefore time.Time) error
}

// stop says when to ask SES again about a set that is stopped, and how long the wait until then is.
type stop struct {
	askAt time.Time
	wait  time.Duration
}

// Sender may be used by several goroutines.
type Sender struct {
	ses     *sesv2.Client
	outbox  Outbox
	mutex   sync.Mutex
	stopped map[string]stop
}

// New returns a Sender.
func New(ses *sesv2.Client, outbox Outbox) *Sender {
	return &Sender{ses: ses, outbox: outbox, stopped: map[string]stop{}}
}

// Send sends a mail with a configuration set, or keeps it. Any other refusal is returned.
func (s *Sender) Send(ctx context.Context, mail *sesv2.SendEmailInput, now time.Time) error {
	name := aws.ToString(mail.ConfigurationSetName)
	s.mutex.Lock()
	known, isStopped := s.stopped[name]
	s.mutex.Unlock()
	if !isStopped || !now.Before(known.askAt) {
		answer, err := s.ses.SendEmail(ctx, mail)
		if err == nil {
			s.mutex.Lock()
			delete(s.stopped, name)
			s.mutex.Unlock()
			return s.outbox.Sent(ctx, mail, aws.ToString(answer.MessageId))
		}
		// SendingPausedException in API v2; longer names with this end in v1.
		var refusal smithy.APIError
		if !errors.As(err, &refusal) || !strings.HasSuffix(refusal.ErrorCode(), "SendingPausedException") {
			return err
		}
		wait := firstWait
		if isStopped {
			wait = 2 * known.wait
		}
		if wait > longestWait {
			wait = longestWait
		}
		known = stop{askAt: now.Add(wait), wait: wait}
		s.mutex.Lock()
		s.stopped[name] = known
		s.mutex.Unlock()
		log.Printf("configuration set %s is stopped: its mail is kept; SES is asked again at %s", name, known.askAt)
	}
	// Spread over the next wait, so that kept mail does not come back all at once.
	return s.outbox.Keep(ctx, mail, known.askAt.Add(time.Duration(rand.Int63n(int64(known.wait)))))
}
