import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Base64;
import java.util.Scanner;

/** Makes each call that a line of the input tells (URL, file of the body or nothing, headers; tabs
 * between them) by Java's client as it is, which asks for HTTP/2, and by one that does not. Writes a
 * line for each: both statuses and both bodies. */
class DefaultClient {
    public static void main(String[] arguments) throws Exception {
        HttpClient[] clients = {
            HttpClient.newHttpClient(),
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build(),
        };
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            String[] parts = lines.nextLine().split("\t", -1);
            StringBuilder answers = new StringBuilder();
            for (HttpClient client : clients) {
                HttpRequest.Builder request =
                        HttpRequest.newBuilder(URI.create(parts[0])).timeout(Duration.ofSeconds(30));
                for (int i = 2; i < parts.length; i++) {
                    String[] header = parts[i].split(": ", 2);
                    request.header(header[0], header[1]);
                }
                if (!parts[1].isEmpty()) {
                    request.POST(BodyPublishers.ofFile(Path.of(parts[1])));
                }
                HttpResponse<byte[]> answer = client.send(request.build(), BodyHandlers.ofByteArray());
                answers.append(answer.statusCode()).append(' ');
                answers.append(Base64.getEncoder().encodeToString(answer.body())).append(' ');
            }
            System.out.println(answers);
        }
    }
}
