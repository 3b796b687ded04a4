package software.amazon.awssdk.services.sesv2.model;

/** A stand-in for the SDK's class. */
public record SendEmailResponse(String messageId) {}
