package software.amazon.awssdk.services.sesv2.model;

import software.amazon.awssdk.awscore.exception.AwsErrorDetails;

/** A stand-in for the SDK's class, which is unchecked, too. */
public class SesV2Exception extends RuntimeException {
    private static final long serialVersionUID = 1;
    private final String code;

    public SesV2Exception(String code) {
        super("refused: " + code);
        this.code = code;
    }

    public AwsErrorDetails awsErrorDetails() {
        return new AwsErrorDetails(code);
    }
}
