;;; rlm-url.el --- Add the text of a page to what is collected  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; `rlm-add-url' fetches a page, and Emacs goes on meanwhile.

;;; Code:

(require 'subr-x)
(require 'thingatpt)
(require 'url)
(require 'rlm-add)
(require 'rlm-collection)

(declare-function dom-by-tag "dom" (dom tag))
(declare-function dom-text "dom" (node))
(declare-function shr-insert-document "shr" (dom))

(defvar eww-data)
(defvar shr-inhibit-images)
(defvar shr-use-fonts)
(defvar shr-width)

(defcustom rlm-url-timeout 60
  "Seconds that `rlm-add-url' waits for a page."
  :group 'rlm
  :type 'rlm-amount
  :package-version '(rlm . "0.1.0"))

;;;###autoload
(defun rlm-add-url (url)
  "Fetch the page at URL, and add its text to the collection.
Emacs goes on meanwhile; a message says when the page is there."
  (interactive (list (rlm-url--read)))
  (unless (string-match-p "\\`https?://[^/]" url)
    (user-error "Only addresses that begin with http:// or https:// can be fetched"))
  (message "Fetching %s..." url)
  (let* ((state (list nil))
         (buffer (url-retrieve url #'rlm-url--fetched
                               (list url rlm-collection-current state) t t)))
    (unless (car state)                 ; an answer may be there at once
      (setcar state (run-at-time rlm-url-timeout nil #'rlm-url--give-up url buffer state)))))

(defun rlm-url--read ()
  "Read the address of a page; that of the page or link here is offered."
  (let ((default (or (get-text-property (point) 'shr-url)
                     (and (derived-mode-p 'eww-mode) (plist-get eww-data :url))
                     (thing-at-point 'url t))))
    (string-trim (read-string (format-prompt "Add the page at" default) nil nil default))))

(defun rlm-url--give-up (url buffer state)
  "Stop waiting for URL, which BUFFER was to receive; STATE is for its callback."
  (setcar state 'late)
  (when (buffer-live-p buffer)
    (rlm-url--bury buffer))
  (message "rlm: %s did not answer within %s seconds" url rlm-url-timeout))

(defun rlm-url--bury (buffer)
  "Kill BUFFER and the process that fills it; nobody is called back."
  (when-let ((process (get-buffer-process buffer)))
    (set-process-sentinel process #'ignore)
    (delete-process process))
  (let (kill-buffer-query-functions)
    (kill-buffer buffer)))

(defun rlm-url--fetched (status url collection state)
  "Add the page in the current buffer, which is the answer to URL.
STATUS is what url.el says of it, COLLECTION the one to add to, and STATE a
list of the timer that would give it up, or of the symbol late."
  (let ((buffer (current-buffer))
        (late (eq (car state) 'late)))
    (when (timerp (car state))
      (cancel-timer (car state)))
    (setcar state 'answered)
    (unwind-protect
        (unless late
          (condition-case problem
              (progn
                (rlm-url--check-answer status)
                (unless (eq collection rlm-collection-current)
                  (user-error "The collection it was for is not the current one any more"))
                (rlm-add-items (list (rlm-url--page-item url))))
            (error (message "rlm: %s was not added: %s" url
                            (error-message-string problem)))))
      (rlm-url--bury buffer))))

(defun rlm-url--check-answer (status)
  "Signal an error unless STATUS is that of a page that is there."
  (when-let ((problem (plist-get status :error)))
    (user-error "%s" (pcase problem
                       (`(error http ,status) (format "the server says %s" status))
                       (`(error connection-failed . ,_) "its server can't be reached")
                       (_ (error-message-string problem))))))

(defun rlm-url--page-item (url)
  "Return the page in the current buffer, the answer to URL, as an item."
  (goto-char (point-min))
  (let* ((case-fold-search t)
         (headers (if (re-search-forward "\r?\n\r?\n" nil t) (point) (point-max)))
         (type (rlm-url--content-type headers))
         (text (decode-coding-string
                (buffer-substring-no-properties headers (point-max))
                (rlm-url--coding (cdr type)))))
    (pcase-let ((`(,title . ,text)
                 (cond ((member (car type) '("text/html" "application/xhtml+xml"))
                        (rlm-url--rendered text))
                       ((string-match-p "\\`text/\\|[/+]\\(?:json\\|xml\\|javascript\\)\\'"
                                        (car type))
                        (cons nil (string-replace "\r\n" "\n" text)))
                       (t (user-error "It is %s, not text" (car type))))))
      (rlm-item-of-text text (or title url) (concat "rlm-buffer:" url) url))))

(defun rlm-url--content-type (headers)
  "Return the type of the answer whose HEADERS end there, and its charset."
  (goto-char (point-min))
  (if (re-search-forward
       "^content-type:[ \t]*\\([^; \t\r\n]+\\)\\(?:.*charset=\"?\\([^\"; \t\r\n]+\\)\\)?"
       headers t)
      (cons (downcase (match-string 1)) (match-string 2))
    (cons "text/plain" nil)))

(defun rlm-url--coding (charset)
  "Return the coding system for CHARSET, a name or nil."
  (let ((coding (and charset (intern (downcase charset)))))
    (if (and coding (coding-system-p coding)) coding 'utf-8)))

(defun rlm-url--rendered (html)
  "Return a cons of the title and the text of HTML.
Without the library for it in this Emacs, the text is HTML as it is."
  (if (not (and (fboundp 'libxml-parse-html-region)
                (or (not (fboundp 'libxml-available-p)) (libxml-available-p))))
      (cons nil html)
    (require 'shr)
    (with-temp-buffer
      (insert html)
      (let* ((dom (libxml-parse-html-region (point-min) (point-max)))
             (title (car (dom-by-tag dom 'title)))
             (shr-inhibit-images t) (shr-use-fonts nil) (shr-width 100))
        (erase-buffer)
        (shr-insert-document dom)
        (cons (and title (string-trim (replace-regexp-in-string "[ \t\n]+" " "
                                                                (dom-text title))))
              (buffer-substring-no-properties (point-min) (point-max)))))))

(provide 'rlm-url)
;;; rlm-url.el ends here
