package software.amazon.awssdk.services.sesv2;

import software.amazon.awssdk.services.sesv2.model.SendEmailRequest;
import software.amazon.awssdk.services.sesv2.model.SendEmailResponse;

/** A stand-in for the SDK's interface. */
public interface SesV2Client {
    SendEmailResponse sendEmail(SendEmailRequest request);
}
