package software.amazon.awssdk.awscore.exception;

/** A stand-in for the SDK's class. */
public record AwsErrorDetails(String errorCode) {}
