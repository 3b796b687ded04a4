package mail

// infra/applications/go/sender.go against an SES.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"
)

const from = "gopher@news.example.com"

var start = time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)

// memory is a queue in memory.
type memory struct {
	kept map[*sesv2.SendEmailInput]time.Time
	ids  []string
}

func (m *memory) Sent(_ context.Context, mail *sesv2.SendEmailInput, id string) error {
	delete(m.kept, mail)
	m.ids = append(m.ids, id)
	return nil
}

func (m *memory) Keep(_ context.Context, mail *sesv2.SendEmailInput, notBefore time.Time) error {
	m.kept[mail] = notBefore
	return nil
}

// calls counts the requests that send a mail, with those that the SDK repeats.
type calls struct{ number int }

func (c *calls) Do(request *http.Request) (*http.Response, error) {
	if strings.HasSuffix(request.URL.Path, "/outbound-emails") {
		c.number++
	}
	return http.DefaultClient.Do(request)
}

func mail(subject, set, sender string) *sesv2.SendEmailInput {
	text := func(text string) *types.Content { return &types.Content{Data: aws.String(text)} }
	return &sesv2.SendEmailInput{
		FromEmailAddress:     aws.String(sender),
		Destination:          &types.Destination{ToAddresses: []string{"reader@example.org"}},
		Content:              &types.EmailContent{Simple: &types.Message{Subject: text(subject), Body: &types.Body{Text: text("Hello.")}}},
		ConfigurationSetName: aws.String(set),
	}
}

func accepted(t *testing.T, mark string) []string {
	answer, err := http.Get(os.Getenv("AWS_ENDPOINT_URL") + "/_ministack/ses/messages")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var all struct {
		Messages map[string][]struct{ Subject string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	subjects := []string{}
	for _, messages := range all.Messages {
		for _, message := range messages {
			if strings.Contains(message.Subject, mark) {
				subjects = append(subjects, message.Subject)
			}
		}
	}
	sort.Strings(subjects)
	return subjects
}

func TestMailOfAStoppedSetIsKeptAndSentOnceAfterTheStop(t *testing.T) {
	ctx := context.Background()
	endpoint := aws.EndpointResolverWithOptionsFunc(func(string, string, ...interface{}) (aws.Endpoint, error) {
		return aws.Endpoint{URL: os.Getenv("AWS_ENDPOINT_URL")}, nil
	})
	sending := &calls{}
	loaded, err := config.LoadDefaultConfig(ctx, config.WithEndpointResolverWithOptions(endpoint), config.WithHTTPClient(sending))
	if err != nil {
		t.Fatal(err)
	}
	ses := sesv2.NewFromConfig(loaded)
	mark := fmt.Sprint(time.Now().UnixNano())
	stopped, other := "newsletter-"+mark, "receipts-"+mark
	for _, name := range []string{stopped, other} {
		if _, err := ses.CreateConfigurationSet(ctx, &sesv2.CreateConfigurationSetInput{ConfigurationSetName: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ses.CreateEmailIdentity(ctx, &sesv2.CreateEmailIdentityInput{EmailIdentity: aws.String(from)}); err != nil {
		t.Fatal(err)
	}
	toggle := func(enabled bool) {
		input := &sesv2.PutConfigurationSetSendingOptionsInput{ConfigurationSetName: aws.String(stopped), SendingEnabled: enabled}
		if _, err := ses.PutConfigurationSetSendingOptions(ctx, input); err != nil {
			t.Fatal(err)
		}
	}
	outbox := &memory{kept: map[*sesv2.SendEmailInput]time.Time{}}
	sender := New(ses, outbox)
	send := func(mail *sesv2.SendEmailInput, now time.Time) {
		if err := sender.Send(ctx, mail, now); err != nil {
			t.Fatal(err)
		}
	}

	toggle(false)
	first, second := mail("1 "+mark, stopped, from), mail("2 "+mark, stopped, from)
	send(first, start)
	send(second, start)
	send(mail("3 "+mark, other, from), start)
	if sending.number != 2 {
		t.Error("SES is asked once about a stopped set, and the SDK does not repeat that call; requests:", sending.number)
	}
	if got := accepted(t, mark); !reflect.DeepEqual(got, []string{"3 " + mark}) {
		t.Fatal("accepted", got)
	}
	for _, notBefore := range outbox.kept {
		if wait := notBefore.Sub(start); wait < 5*time.Minute || wait > 10*time.Minute {
			t.Error("kept for", wait)
		}
	}
	if len(outbox.kept) != 2 {
		t.Fatal("kept", len(outbox.kept))
	}
	later := start.Add(10 * time.Minute)
	send(first, later)
	if wait := outbox.kept[first].Sub(later); wait < 10*time.Minute || wait > 20*time.Minute {
		t.Error("kept again for", wait)
	}

	err = sender.Send(ctx, mail("4 "+mark, other, "who@unverified.example.net"), start)
	var refusal smithy.APIError
	if !errors.As(err, &refusal) || refusal.ErrorCode() != "MessageRejected" {
		t.Error("another error is returned, not", err)
	}

	toggle(true)
	end := later.Add(20 * time.Minute)
	send(first, end)
	send(second, end)
	if got := accepted(t, mark); !reflect.DeepEqual(got, []string{"1 " + mark, "2 " + mark, "3 " + mark}) {
		t.Fatal("accepted", got)
	}
	if len(outbox.kept) != 0 || len(outbox.ids) != 3 {
		t.Fatal("left", outbox)
	}
}
